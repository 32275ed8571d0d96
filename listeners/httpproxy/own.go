package httpproxy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
)

// pacPath is where clients get the automatic configuration.
const pacPath = "/proxy.pac"

// serveOwn answers the requests that are for this proxy itself.
func (h *Handler) serveOwn(w http.ResponseWriter, r *http.Request) {
	c := clientOf(r)
	at := reachedAs(r, c)
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !read && r.URL.Path == pacPath:
		p := page(r, http.StatusMethodNotAllowed, "this is a file to be read")
		p.Header.Set("Allow", "GET, HEAD")
		reply(w, p)
	case !read:
		reply(w, textPage(r, http.StatusBadRequest, plainText, help(at)))
	case r.URL.Path == pacPath:
		reply(w, textPage(r, http.StatusOK, "application/x-ns-proxy-autoconfig", pac(at)))
	case r.URL.Path == statusPath && h.status != nil && sameMachine(r, c):
		h.replyStatus(w, r)
	case r.URL.Path == "/":
		// Somebody looks at the port with a browser.
		reply(w, textPage(r, http.StatusOK, plainText, help(at)))
	default:
		// A program takes this for a web server: it must not take the page for the file it wanted.
		reply(w, textPage(r, http.StatusNotFound, plainText, help(at)))
	}
}

const statusPath = "/status"

// sameMachine tells whether a program of this machine asks, by an address of this machine: such a connection comes from
// loopback, or from the address it goes to. A page in a browser could ask as well, but only under the name of a site:
// that it is sent here by that site's DNS makes it none of ours.
func sameMachine(r *http.Request, c *client) bool {
	u, err := url.Parse("http://" + r.Host)
	if err != nil {
		return false
	}
	var own netip.Addr
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok {
		own = local.AddrPort().Addr().Unmap()
	}
	ours := func(addr netip.Addr) bool { return addr.IsLoopback() || addr.IsValid() && addr == own }
	if !ours(c.Client().Addr()) {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && ours(addr) || u.Hostname() == "localhost"
}

func (h *Handler) replyStatus(w http.ResponseWriter, r *http.Request) {
	body, err := json.MarshalIndent(h.status(), "", "  ")
	if err != nil {
		h.log.Error("the status cannot be told", "error", err)
		reply(w, page(r, http.StatusInternalServerError, "the status cannot be told; the gateway's log says why"))
		return
	}
	reply(w, textPage(r, http.StatusOK, "application/json", string(body)+"\n"))
}

// reachedAs is the host and port that the client uses for this listener: those of its Host, behind a port forwarding
// these differ from our own, if they are such as can be printed into a script; otherwise the socket's.
func reachedAs(r *http.Request, c *client) string {
	if u, err := url.Parse("http://" + r.Host); err == nil && u.Host == r.Host {
		if host, port, err := target(u, 80); err == nil && !hasZone(host) {
			return net.JoinHostPort(host, strconv.Itoa(int(port)))
		}
	}
	local, _ := c.LocalAddr().(*net.TCPAddr)
	at := local.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()).String()
}

func hasZone(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() != ""
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
`, at, pacPath)
}
