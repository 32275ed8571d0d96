package routing

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policyroutes"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/netlab"
)

// Specs reads uplink arguments.
func Specs(t *testing.T, names ...string) []uplink.Spec {
	t.Helper()
	list, err := uplink.ParseSpecs(names)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Examine has the doctor examine uplinks.
func Examine(t *testing.T, o doctor.Options, names ...string) *doctor.Report {
	t.Helper()
	report, err := doctor.Examine(t.Context(), Specs(t, names...), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Run runs commands as their reader would.
func Run(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
}

// Dial connects through the uplink and returns the source that the server saw.
func Dial(name string, server netip.AddrPort, within time.Duration) (netip.Addr, error) {
	spec, err := uplink.ParseSpec(name)
	if err != nil {
		return netip.Addr{}, err
	}
	set, err := uplink.NewFleet(new(machine.Table), []uplink.Spec{spec})
	if err != nil {
		return netip.Addr{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := set.Uplinks()[0].DialStream(ctx, uplink.To(server))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return netip.Addr{}, err
	}
	peer, err := netlab.ReadPeer(conn)
	return peer.Addr(), err
}

// DialUntil gives the network the time to learn what has changed: a carrier, a neighbour's new link address.
func DialUntil(name string, server netip.AddrPort) (source netip.Addr, err error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if source, err = Dial(name, server, time.Second); err == nil {
			return source, nil
		}
	}
	return source, err
}

// Meet makes the kernel learn that the address is a router's, as any traffic by it would. Link-local addresses, of the
// interface and of the router, come a moment after the link.
func Meet(t *testing.T, address, device string) {
	t.Helper()
	if device != "" {
		i, err := net.InterfaceByName(device)
		if err != nil {
			t.Fatal(err)
		}
		address += "%" + strconv.Itoa(i.Index)
	}
	address = net.JoinHostPort(address, "9")
	var d net.Dialer
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var conn net.Conn
		if conn, err = d.DialContext(t.Context(), "tcp", address); err == nil {
			conn.Close()
			t.Fatalf("somebody listens on %s", address)
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	t.Fatal(err)
}

// ClearPolicies removes what printed commands have installed.
func ClearPolicies(t *testing.T) {
	t.Helper()
	change, err := policyroutes.PlanUnfix()
	if err != nil {
		t.Error(err)
		return
	}
	if err := errors.Join(change.Make(), change.Close()); err != nil {
		t.Error(err)
	}
}
