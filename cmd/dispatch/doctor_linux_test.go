package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher/doctor"
	"dispatch/testdata/netlab"
)

// nobody has no privileges.
const nobody = 65534

// doctorRun is what one run of the command made of itself.
type doctorRun struct {
	code     int
	out, err string
	report   doctor.Report // where the arguments asked for JSON
}

func (r doctorRun) line(t *testing.T, name string) doctor.Line {
	t.Helper()
	for _, l := range r.report.Lines {
		if l.Uplink == name {
			return l
		}
	}
	t.Fatalf("no line %s in:\n%s%s", name, r.out, r.err)
	return doctor.Line{}
}

// problems are the checks of a line that failed.
func problems(l doctor.Line) []doctor.Check {
	var list []doctor.Check
	for _, f := range l.Findings {
		if f.Status == doctor.Fail {
			list = append(list, f.Check)
		}
	}
	return list
}

// runDoctor runs `dispatch doctor`; program is "" for this binary itself.
func runDoctor(t *testing.T, program string, attr *syscall.SysProcAttr, stdin io.Reader, args ...string) doctorRun {
	t.Helper()
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Args = append([]string{"dispatch", "doctor"}, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr, cmd.Dir = stdin, &out, &errOut, attr, "/"
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	r := doctorRun{code: cmd.ProcessState.ExitCode(), out: out.String(), err: errOut.String()}
	if slices.Contains(args, "--json") && r.out != "" {
		if err := json.Unmarshal(out.Bytes(), &r.report); err != nil {
			t.Fatalf("%v in:\n%s", err, r.out)
		}
	}
	return r
}

// routing lists all rules and routes.
func routing(t *testing.T) string {
	t.Helper()
	var list []string
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			list = append(list, fmt.Sprintf("%s protocol %d", r, r.Protocol))
		}
		routes, err := netlink.RouteListFiltered(f, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			list = append(list, fmt.Sprintf("table %d protocol %d %s", r.Table, r.Protocol, r))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// brokenLab is a lab whose second line drops the replies (rp_filter) and whose third is in order.
func brokenLab(t *testing.T) (lab *netlab.Lab, target string) {
	lab = netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {RPFilter: 1}, {}}})
	return lab, lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0)).String()
}

func TestDoctorNamesFixesAndUnfixes(t *testing.T) {
	_, target := brokenLab(t)
	before := routing(t)
	r := runDoctor(t, "", nil, nil, "--json", "--target", target, "--timeout", "300ms")
	if r.code != exitFailure || !strings.Contains(r.err, "dispatch: 1 of 3 lines cannot be used as they are") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if got := problems(r.line(t, "wan2")); !slices.Equal(got, []doctor.Check{doctor.CheckFilter, doctor.CheckTarget}) {
		t.Errorf("wan2: %v", got)
	}
	if !r.line(t, "wan1").Usable || !r.line(t, "wan3").Usable || r.report.Usable {
		t.Errorf("%+v", r.report)
	}
	if routing(t) != before {
		t.Error("an examination has changed the routing")
	}

	r = runDoctor(t, "", nil, nil, "--json", "--fix", "--yes", "--target", target, "wan2", "wan3")
	if r.code != exitOK || !strings.Contains(r.err, "  ip rule add pref 5102 from 203.0.113.2/32 lookup 209") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	for name, source := range map[string]string{"wan2": "203.0.113.2:", "wan3": "100.64.2.2:"} {
		findings := r.line(t, name).Findings
		passage := findings[len(findings)-1].Passage
		if passage == nil || passage.BoundTo != name || !strings.HasPrefix(passage.Source, source) || passage.Sent < 2 {
			t.Errorf("%s: %+v", name, passage)
		}
	}
	r = runDoctor(t, "", nil, nil, "--fix", "wan2", "wan3")
	if r.code != exitOK || !strings.Contains(r.err, "nothing has to be changed") {
		t.Errorf("a second time, exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if !strings.Contains(r.out, "wan2 (bridge/virtual): usable\n") || !strings.Contains(r.out, "in the table of 'dispatch doctor --fix'") {
		t.Errorf("printed:\n%s", r.out)
	}
	r = runDoctor(t, "", nil, nil, "--unfix", "--yes")
	if r.code != exitOK || r.out != "" {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if after := routing(t); after != before {
		t.Errorf("left:\n%s\nnot\n%s", after, before)
	}
}

func TestDoctorPrintsCommandsToCopy(t *testing.T) {
	brokenLab(t)
	r := runDoctor(t, "", nil, nil, "wan1", "wan2")
	if r.code != exitFailure {
		t.Errorf("exit code %d", r.code)
	}
	for _, want := range []string{
		"wan1 (bridge/virtual): usable\n",
		"\nwan2 (bridge/virtual): does not work\n",
		"  ok    source          ipv4  connections leave from 203.0.113.2\n",
		"  FAIL  rp_filter       ipv4  rp_filter is 1 and the kernel would answer by wan1, so it drops the replies that come in by wan2\n",
		"\n            sysctl -w net/ipv4/conf/wan2/rp_filter=2\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in:\n%s", want, r.out)
		}
	}
	for line := range strings.Lines(r.out) {
		if strings.TrimRight(line, " \n")+"\n" != line {
			t.Errorf("%q ends in spaces", line)
		}
	}
}

func TestDoctorAsksBeforeItFixes(t *testing.T) {
	brokenLab(t)
	before := routing(t)
	r := runDoctor(t, "", nil, strings.NewReader("y\n"), "--fix", "wan2")
	if r.code != exitFailure || !strings.Contains(r.err, "no terminal to ask on; add --yes") {
		t.Errorf("without a terminal, exit code %d:\n%s", r.code, r.err)
	}
	for _, answer := range []string{"n\n", "\n", "y\n"} {
		changes := answer == "y\n"
		far, near := terminalPair(t)
		if _, err := far.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		r := runDoctor(t, "", nil, near, "--fix", "wan2")
		if !strings.Contains(r.err, "go on? [y/N] ") {
			t.Errorf("%q: did not ask:\n%s", answer, r.err)
		}
		if changed := routing(t) != before; changed != changes || (r.code == exitOK) != changes {
			t.Errorf("%q: changed %v, exit code %d:\n%s", answer, changed, r.code, r.err)
		}
	}
	if r := runDoctor(t, "", nil, nil, "--unfix", "-y"); r.code != exitOK || routing(t) != before {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
}

// Without names, --fix is for the lines that start would use: it says which others could be lines.
func TestDoctorTellsOfTheLinesItPassesOver(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoIPv6: true}}})
	wan1, err := netlink.LinkByName("wan1")
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "lan2", wan1.Attrs().Index
	lan2 := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := netlink.LinkAdd(lan2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(lan2); err != nil {
			t.Error(err)
		}
	})
	addr, err := netlink.ParseAddr("198.51.100.3/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetUp(lan2), netlink.AddrAdd(lan2, addr)); err != nil {
		t.Fatal(err)
	}
	r := runDoctor(t, "", nil, nil, "--fix")
	const told = "no route for lan2: 'start' would not use it: no default route; to make it a line, name it: dispatch doctor --fix lan2\n"
	_, planned, _ := strings.Cut(r.err, "to be run:\n")
	if r.code != exitFailure || !strings.Contains(r.err, told) || !strings.Contains(planned, "from 198.51.100.2/32") || strings.Contains(planned, "198.51.100.3") {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
}

func TestDoctorTellsUsageFromLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--yes"}, exitUsage},
		{[]string{"--target", "nowhere"}, exitUsage},
		{[]string{"--bogus"}, exitUsage},
		{[]string{"nothing0"}, exitFailure},
	} {
		if r := runDoctor(t, "", nil, nil, c.args...); r.code != c.code {
			t.Errorf("%q: exit code %d, not %d:\n%s", c.args, r.code, c.code, r.err)
		}
	}
}

// terminalPair makes a pseudo terminal.
func terminalPair(t *testing.T) (far, near *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, far.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatal(errno)
	}
	near = os.NewFile(fd, "terminal")
	t.Cleanup(func() { near.Close() })
	return far, near
}

// copyForOthers puts this binary where every user can start it.
func copyForOthers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for up := dir; up != filepath.Clean(os.TempDir()) && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "dispatch")
	if err := errors.Join(os.WriteFile(program, self, 0o755), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	return program
}

// needRoot skips or fails where the lab was had as an ordinary user, who can neither become another nor use cgroups.
func needRoot(t *testing.T) {
	t.Helper()
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(users)); os.Geteuid() == 0 && len(fields) == 3 && fields[2] == "4294967295" {
		return
	}
	if os.Getenv(netlab.RequireEnv) == "1" {
		t.Fatalf("this test did NOT RUN, and %s=1 demands it: it needs a real root", netlab.RequireEnv)
	}
	t.Skip("this test did NOT RUN: it needs a real root")
}

func TestDoctorForAnOrdinaryUser(t *testing.T) {
	needRoot(t)
	lab, target := brokenLab(t)
	program := copyForOthers(t)
	asNobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}

	r := runDoctor(t, program, asNobody, nil, "--json", "--target", target, "wan1", "wan3")
	if r.code != exitOK || !r.report.Usable {
		t.Fatalf("with the right to bind, exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	before := routing(t)
	r = runDoctor(t, program, asNobody, nil, "--fix", "--yes", "wan2")
	if r.code != exitFailure || !strings.Contains(r.err, "CAP_NET_ADMIN: run it as root") || routing(t) != before {
		t.Errorf("--fix, exit code %d:\n%s", r.code, r.err)
	}

	// A cgroup that ties every new socket to an interface, as `ip vrf exec` does, takes the right to tie it to another.
	attr := *asNobody
	attr.UseCgroupFD, attr.CgroupFD = true, tyingCgroup(t)
	r = runDoctor(t, program, &attr, nil, "--json", "--target", target, "wan3")
	broken := r.line(t, "wan3")
	if got := problems(broken); !slices.Contains(got, doctor.CheckBind) || r.code != exitFailure {
		t.Fatalf("without the right to bind, exit code %d: %v\n%s%s", r.code, got, r.out, r.err)
	}
	for _, f := range broken.Findings {
		if f.Check == doctor.CheckBind {
			t.Logf("%s: %q", f.Text, f.Commands)
		}
	}
	for _, command := range commandsOf(broken) {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	r = runDoctor(t, program, &attr, nil, "--json", "--target", target, "wan3")
	if r.code != exitOK {
		t.Fatalf("not mended, exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	mended := r.line(t, "wan3").Findings
	if p := mended[len(mended)-1].Passage; p == nil || !strings.HasPrefix(p.Source, lab.Uplink(2).IPv4.Addr().String()+":") || p.BoundTo != "wan3" {
		t.Errorf("%+v", p)
	}
}

// commandsOf are a line's remedies, each once: the same may mend both families.
func commandsOf(l doctor.Line) []string {
	var list []string
	for _, f := range l.Findings {
		for _, c := range f.Commands {
			if f.Status == doctor.Fail && !slices.Contains(list, c) {
				list = append(list, c)
			}
		}
	}
	return list
}

// tyingCgroup makes a cgroup in which every new socket is tied to loopback, and returns its descriptor.
func tyingCgroup(t *testing.T) int {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount the cgroups: %v", err)
	}
	dir := filepath.Join(root, fmt.Sprintf("dispatch-test-%d", os.Getpid()))
	t.Cleanup(func() {
		if err := errors.Join(os.Remove(dir), unix.Unmount(root, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { group.Close() })
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	// struct bpf_sock begins with bound_dev_if: r2 = index; *(u32 *)(r1 + 0) = r2; r0 = 1; exit
	program := []struct {
		code, registers uint8
		offset          int16
		value           int32
	}{{0xb7, 2, 0, int32(lo.Index)}, {0x63, 0x21, 0, 0}, {0xb7, 0, 0, 1}, {0x95, 0, 0, 0}}
	license := []byte("GPL\x00")
	load := struct { // the beginning of union bpf_attr for BPF_PROG_LOAD
		kind, length         uint32
		instructions, licenc uint64
		_                    [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_SOCK, length: uint32(len(program)),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), licenc: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		t.Fatalf("load the program that ties sockets: %v", errno)
	}
	t.Cleanup(func() { unix.Close(int(fd)) })
	attach := struct{ target, program, kind, flags uint32 }{uint32(group.Fd()), uint32(fd), unix.BPF_CGROUP_INET_SOCK_CREATE, 0}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		t.Fatalf("attach it: %v", errno)
	}
	return int(group.Fd())
}
