package compare

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// proxy is a program under test. In its command and its configuration, {dir} is a directory of its own, {conf} the path
// of the configuration, and {socks}, {http}, {echo}, {bulk}, {web} are addresses to listen on, or with -port in the name
// their ports: as a SOCKS5 or an HTTP proxy, or to forward from, to a service's {to-echo}, {to-bulk}, {to-web}.
type proxy struct {
	name, command, conf string
	asNobody            bool // run as an ordinary user, for whom the kernel's limits are low

	cmd     *exec.Cmd     // nil: not started
	ended   chan struct{} // closed when cmd has ended
	listens map[string]string
}

// Destinations on loopback are dialled directly, whatever the line is.
const (
	oursBySOCKS = "{dispatch} start --socks {socks} --http off --log-file {dir}/log lo"
	oursByHTTP  = "{dispatch} start --socks off --http {http} --log-file {dir}/log lo"
)

func proxies() []*proxy {
	return append([]*proxy{
		{name: "dispatch", command: oursBySOCKS},
		{name: "dispatch@nobody", command: oursBySOCKS, asNobody: true},
		{name: "dispatch+http", command: oursByHTTP},
		{name: "microsocks", command: "microsocks -i 127.0.0.1 -p {socks-port}"},
		{name: "danted", command: "danted -f {conf} -p {dir}/pid", conf: `
errorlog: {dir}/log
internal: 127.0.0.1 port = {socks-port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }
socks pass { from: 127.0.0.0/8 to: 127.0.0.0/8 }
`},
		{name: "tinyproxy", command: "tinyproxy -d -c {conf}", conf: `
Port {http-port}
Listen 127.0.0.1
MaxClients 10000
LogLevel Critical
LogFile "{dir}/log"
`},
		{name: "squid", command: "squid -N -f {conf}", conf: `
http_port {http}
http_access allow localhost
http_access deny all
cache deny all
access_log none
cache_log {dir}/log
pid_filename none
pinger_enable off
visible_hostname compare
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
`},
		// At level 4 it passes all on to the one server, which is less than a proxy does and so a mark to aim at.
		{name: "haproxy", command: "haproxy -db -f {conf}", conf: `
global
 maxconn 5000
 maxpipes 400
defaults
 timeout connect 5s
 timeout client 600s
 timeout server 600s
 option splice-request
 option splice-response
listen echo
 bind {echo}
 server one {to-echo}
listen bulk
 bind {bulk}
 server one {to-bulk}
listen web
 mode http
 bind {web}
 server one {to-web}
`},
	}, added...)
}

var added []*proxy // by addFlag, which defines -proxy

func addFlag() {
	flag.Func("proxy", "measure this too: NAME=COMMAND, see the package's description; may be repeated", func(s string) error {
		name, command, _ := strings.Cut(s, "=")
		if name == "" || !strings.Contains(command, "{") {
			return errors.New("it is not NAME=COMMAND with a place such as {socks} in the command")
		}
		added = append(added, &proxy{name: name, command: command})
		return nil
	})
}

// has tells whether the command or the configuration has a place for an address of this kind, or for its port.
func (p *proxy) has(kind string) bool {
	text := p.command + p.conf
	return strings.Contains(text, "{"+kind+"}") || strings.Contains(text, "{"+kind+"-port}")
}

// start runs the proxy in a process group of its own, and returns when it accepts connections everywhere it should.
// It skips t where the program is not there.
func (p *proxy) start(t testing.TB, e *environment) {
	t.Helper()
	if p.cmd != nil {
		return
	}
	dir := filepath.Join(e.dir, strings.ReplaceAll(p.name, "/", "_"))
	must(t, os.MkdirAll(dir, 0o777))
	must(t, os.Chmod(dir, 0o777)) // those that give up root by themselves write here after that
	conf := filepath.Join(dir, "configuration")
	places := []string{"{dir}", dir, "{conf}", conf, "{dispatch}", e.dispatch}
	for service, at := range e.services {
		places = append(places, "{to-"+service+"}", at)
	}
	p.listens = make(map[string]string)
	for _, kind := range []string{"socks", "http", "echo", "bulk", "web"} {
		if p.has(kind) {
			e.port++
			port := strconv.Itoa(e.port)
			p.listens[kind] = "127.0.0.1:" + port
			places = append(places, "{"+kind+"}", p.listens[kind], "{"+kind+"-port}", port)
		}
	}
	fill := strings.NewReplacer(places...)
	must(t, os.WriteFile(conf, []byte(fill.Replace(p.conf)), 0o644))
	argv := strings.Fields(fill.Replace(p.command))
	path, err := exec.LookPath(argv[0])
	if err != nil { // Debian's servers are not on every PATH
		path, err = exec.LookPath("/usr/sbin/" + argv[0])
	}
	if err != nil {
		t.Skipf("%s is not installed: %v", p.name, err)
	}
	said := filepath.Join(dir, "output")
	output, err := os.Create(said)
	must(t, err)
	defer output.Close()
	p.cmd = &exec.Cmd{Path: path, Args: argv, Dir: dir, Env: append(os.Environ(), "HOME="+dir), Stdout: output, Stderr: output}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	if p.asNobody {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	must(t, p.cmd.Start())
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // what it printed says why
		close(ended)
	}(p.cmd, p.ended)
	for _, at := range p.listens {
		if err := p.await(at); err != nil {
			text, readErr := os.ReadFile(said)
			p.stop(t)
			t.Fatalf("%s: %v; it said: %s", p.name, errors.Join(err, readErr), text)
		}
	}
}

// await returns when the process accepts connections there.
func (p *proxy) await(at string) error {
	for began := time.Now(); ; {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended before it listened on %s", at)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Since(began) > 15*time.Second {
			return err
		}
	}
}

// stop asks the process to end, and ends it and its group where that is not heard: the next use finds a fresh one.
func (p *proxy) stop(t testing.TB) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(unix.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
	}
	if err := unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Errorf("end %s: %v", p.name, err)
	}
	<-p.ended
	p.cmd = nil
}
