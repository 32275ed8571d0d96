// Package pages is what a listener's own address answers: the automatic configuration (PAC), the status, and how to use
// the proxy.
package pages

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
)

// The paths.
const (
	PAC    = "/proxy.pac"
	Status = "/status"
)

const plainText = "text/plain; charset=utf-8"

// New makes the pages. What status returns is answered, as JSON, to programs of this machine. A request's context has to
// have its http.LocalAddrContextKey, as those of http.Server have.
func New(status func() any, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := localAddr(r)
		at := reachedAs(r.Host, local)
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case !read && r.URL.Path == PAC:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "405 Method Not Allowed\n\ndispatch: this is a file to be read.", http.StatusMethodNotAllowed)
		case !read:
			send(w, http.StatusBadRequest, plainText, help(at))
		case r.URL.Path == PAC:
			send(w, http.StatusOK, "application/x-ns-proxy-autoconfig", pac(at))
		case r.URL.Path == Status && sameMachine(r, local.Addr()):
			body, err := json.MarshalIndent(status(), "", "  ")
			if err != nil {
				log.Error("the status cannot be told", "error", err)
				http.Error(w, "the status cannot be told; the gateway's log says why", http.StatusInternalServerError)
				return
			}
			send(w, http.StatusOK, "application/json", string(body)+"\n")
		case r.URL.Path == "/":
			// Somebody looks at the port with a browser.
			send(w, http.StatusOK, plainText, help(at))
		default:
			// A program takes this for a web server: it must not take the page for the file it wanted.
			send(w, http.StatusNotFound, plainText, help(at))
		}
	})
}

// send writes a page. That the client has gone meanwhile is its own affair.
func send(w http.ResponseWriter, status int, mediaType, body string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Content-Type", mediaType)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// localAddr is the listener's address, as the client's socket has it.
func localAddr(r *http.Request) netip.AddrPort {
	tcp, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// sameMachine tells whether a program of this machine asks, by an address of this machine: such a connection comes from
// loopback, or from the address it goes to. A page in a browser could ask as well, but only under the name of a site:
// that it is sent here by that site's DNS makes it none of ours.
func sameMachine(r *http.Request, local netip.Addr) bool {
	ours := func(addr netip.Addr) bool {
		addr = addr.Unmap().WithZone("")
		return addr.IsLoopback() || addr.IsValid() && addr == local
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ours(client.Addr()) {
		return false
	}
	u, err := url.Parse("http://" + r.Host)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && ours(addr) || u.Hostname() == "localhost"
}

// printable is a host, and maybe a port, that may stand in a script and in a shell's command.
var printable = regexp.MustCompile(`^([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

// reachedAs is the host and port that the client uses for this listener: those of its Host, behind a port forwarding
// these differ from our own, if they are such as can be printed into a script; otherwise the socket's.
func reachedAs(host string, local netip.AddrPort) string {
	u, err := url.Parse("http://" + host)
	if err != nil || !printable.MatchString(host) {
		return local.String()
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return local.String()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// pac is the automatic configuration. Only the client's own machine and names without a dot, which mean something in
// the client's network, are left out. There is no DIRECT behind the proxy: if it is down, connections fail instead of
// leaving by a line that nobody chose.
func pac(at string) string {
	return fmt.Sprintf(`function FindProxyForURL(url, host) {
  if (isPlainHostName(host) || dnsDomainIs(host, ".localhost") ||
      shExpMatch(host, "127.*") || host === "::1" || host === "[::1]") {
    return "DIRECT";
  }
  return "PROXY %[1]s; SOCKS5 %[1]s";
}
`, at)
}

// help tells how to use the proxy.
func help(at string) string {
	return fmt.Sprintf(`This is dispatch, a proxy. It is no web server: tell your applications to send their requests through it.

HTTP proxy, for http and https:  %[1]s
SOCKS proxy (4, 4a or 5):        %[1]s
Automatic configuration (PAC):   http://%[1]s%[2]s

Firefox:  Settings, Network Settings, "Automatic proxy configuration URL": the address above.
Chrome:   uses the system's settings; or start it with --proxy-server=http://%[1]s
Windows:  Settings, Network & internet, Proxy, "Use setup script": the address above.
macOS:    System Settings, Network, Details, Proxies, "Automatic proxy configuration".
curl:     curl -x http://%[1]s https://example.com/
`, at, PAC)
}
