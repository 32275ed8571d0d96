package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// rival is a program that Debian has.
type rival struct {
	name, pkg string
	// start completes p, whose name, home and argv[0] are set, for the given server.
	start func(ctx context.Context, plant *plant, p *proxy, server netip.AddrPort) error
}

func rivals() []rival {
	return []rival{
		{"microsocks", "microsocks", microsocks},
		{"danted", "dante-server", danted},
		{"tinyproxy", "tinyproxy", tinyproxy},
		{"squid", "squid", squid},
		{"haproxy", "haproxy", haproxy},
	}
}

// find makes the rival's proxy. The error is exec.ErrNotFound where it is not installed.
func (r rival) find(ctx context.Context, plant *plant, server netip.AddrPort) (*proxy, error) {
	path, err := findProgram(r.name)
	if err != nil {
		return nil, err
	}
	home, err := plant.home(r.name, nil)
	if err != nil {
		return nil, err
	}
	p := &proxy{name: r.name, argv: []string{path}, home: home}
	if err := r.start(ctx, plant, p, server); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return p, nil
}

// findProgram also looks where servers are, which is not on every PATH.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// configure writes the proxy's configuration and returns where it is.
func (p *proxy) configure(lines ...string) (string, error) {
	path := filepath.Join(p.home, "configuration")
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func microsocks(ctx context.Context, plant *plant, p *proxy, _ netip.AddrPort) error {
	p.version = packageVersion(ctx, "microsocks")
	p.socks = plant.address()
	p.argv = append(p.argv, "-i", loopback.String(), "-p", strconv.Itoa(int(p.socks.Port())))
	return nil
}

func danted(ctx context.Context, plant *plant, p *proxy, _ netip.AddrPort) error {
	p.version = packageVersion(ctx, "dante-server")
	p.socks = plant.address()
	path, err := p.configure(
		"errorlog: "+filepath.Join(p.home, "log"),
		fmt.Sprintf("internal: %s port = %d", loopback, p.socks.Port()),
		"external: "+loopback.String(),
		"clientmethod: none",
		"socksmethod: none",
		"user.unprivileged: nobody",
		"client pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }",
		"socks pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }",
	)
	p.argv = append(p.argv, "-f", path, "-p", filepath.Join(p.home, "pid"))
	return err
}

func tinyproxy(ctx context.Context, plant *plant, p *proxy, _ netip.AddrPort) error {
	p.version = packageVersion(ctx, "tinyproxy")
	p.http = plant.address()
	path, err := p.configure(
		fmt.Sprintf("Port %d", p.http.Port()),
		"Listen "+loopback.String(),
		"Timeout 600",
		"MaxClients 10000",
		"LogLevel Critical",
		fmt.Sprintf("LogFile %q", filepath.Join(p.home, "log")),
		"Allow 127.0.0.0/8",
	)
	p.argv = append(p.argv, "-d", "-c", path)
	return err
}

func squid(ctx context.Context, plant *plant, p *proxy, _ netip.AddrPort) error {
	p.version = packageVersion(ctx, "squid")
	p.http = plant.address()
	path, err := p.configure(
		"http_port "+p.http.String(),
		"http_access allow localhost",
		"http_access deny all",
		"cache deny all",
		"access_log none",
		"cache_log "+filepath.Join(p.home, "log"),
		"cache_store_log none",
		"netdb_filename none",
		"pid_filename none",
		"coredump_dir "+p.home,
		"pinger_enable off",
		"visible_hostname compare",
		"dns_nameservers "+loopback.String(), // it resolves nothing here, and must not ask anyone
		"shutdown_lifetime 0 seconds",
	)
	p.argv = append(p.argv, "-N", "-f", path)
	return err
}

// haproxy speaks no proxy protocol that fits: at level 4 it passes all to the one server, which is less than a
// proxy does and so a mark to aim at; for HTTP it is a reverse proxy.
func haproxy(ctx context.Context, plant *plant, p *proxy, server netip.AddrPort) error {
	p.version = packageVersion(ctx, "haproxy")
	lines := []string{
		"global", " maxconn 9500", " maxpipes 400", // two descriptors for each: together below 20,000
		"defaults", " timeout connect 5s", " timeout client 600s", " timeout server 600s", " option splice-request", " option splice-response",
	}
	for service, mode := range [services]string{serviceEcho: "tcp", serviceBulk: "tcp", serviceHTTP: "http"} {
		p.forward[service] = plant.address()
		lines = append(lines, fmt.Sprintf("listen service%d", service), " mode "+mode, " bind "+p.forward[service].String(),
			" server one "+at(server, service).String())
	}
	path, err := p.configure(lines...)
	p.argv = append(p.argv, "-db", "-f", path)
	return err
}

// packageVersion is a Debian package's version: not every program tells its own.
func packageVersion(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil || len(out) == 0 {
		return "of unknown version"
	}
	return string(out)
}
