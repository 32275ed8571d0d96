package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// proxy is a program under test, and how to start it.
type proxy struct {
	name    string
	version string
	argv    []string
	as      *identity // nil: as this process
	home    string    // its working directory and its home

	socks, http netip.AddrPort // where it listens; the zero value: it does not speak that
	// Where it passes everything on to a service of the one server, for a program that is not asked for a destination.
	forward [services]netip.AddrPort
}

// listens returns all addresses that must answer before the proxy counts as started.
func (p *proxy) listens() []netip.AddrPort {
	var all []netip.AddrPort
	for _, at := range append([]netip.AddrPort{p.socks, p.http}, p.forward[:]...) {
		if at.IsValid() {
			all = append(all, at)
		}
	}
	return all
}

// plant makes proxies: it hands out ports and directories.
type plant struct {
	dir  string
	last uint16 // the last port handed out
}

func (p *plant) address() netip.AddrPort {
	p.last++
	return netip.AddrPortFrom(loopback, p.last)
}

// home makes the directory of a proxy, which as, or else anyone, may write to.
func (p *plant) home(name string, as *identity) (string, error) {
	dir := filepath.Join(p.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if as != nil {
		return dir, os.Chown(dir, int(as.uid), int(as.gid))
	}
	return dir, os.Chmod(dir, 0o777) // those that give up root by themselves write here after that
}

// dispatch is our own.
func (p *plant) dispatch(path string, as *identity) (*proxy, error) {
	// Destinations on loopback are dialled directly whatever the uplink is: lo is one that is there.
	return p.binary(program{"dispatch", []string{path, "start", "--socks", "{socks}", "--http", "{http}", "--log-file", "{home}/log", "lo"}}, as)
}

// binary is a program that the user named.
func (p *plant) binary(b program, as *identity) (*proxy, error) {
	out := &proxy{name: as.mark(b.name), as: as}
	var err error
	if out.home, err = p.home(out.name, as); err != nil {
		return nil, err
	}
	whole := strings.Join(b.argv, " ")
	if strings.Contains(whole, "{socks}") {
		out.socks = p.address()
	}
	if strings.Contains(whole, "{http}") {
		out.http = p.address()
	}
	places := strings.NewReplacer("{socks}", out.socks.String(), "{http}", out.http.String(), "{home}", out.home)
	for _, arg := range b.argv {
		out.argv = append(out.argv, places.Replace(arg))
	}
	return out, nil
}

// identity is a user that a program runs as.
type identity struct {
	name     string
	uid, gid uint32
}

// mark adds the identity to a program's name; nil adds nothing.
func (i *identity) mark(name string) string {
	if i == nil {
		return name
	}
	return name + "@" + i.name
}

// credential is what a process needs to be given the identity; nil for nil.
func (i *identity) credential() *syscall.Credential {
	if i == nil {
		return nil
	}
	return &syscall.Credential{Uid: i.uid, Gid: i.gid}
}

func identify(name string) (*identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("-user: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("-user: uid of %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("-user: gid of %s: %w", name, err)
	}
	return &identity{name, uint32(uid), uint32(gid)}, nil
}
