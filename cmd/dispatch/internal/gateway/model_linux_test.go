package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher"
	"dispatch/testdata/netlab"
)

// The size of the model.
const (
	modelClients = 50
	modelOrigins = 20
	modelTime    = 20 * time.Second
	// modelLong is for a run by hand.
	modelLong = 10 * time.Minute
)

// TestModel drives a gateway at random: clients by all protocols, origins, both breaking off now and then, and faults of
// the lines and of the ends. After each step it checks what must be so whatever happens:
//
//   - no byte is wrong, either way;
//   - nothing that was cut is taken for the whole, by a client or by an origin;
//   - no packet leaves by a line but its own, and a session by the one that its record names;
//   - every session has one closing record;
//   - what the records and the accounts count is what clients and origins did;
//   - where nothing was wrong, nothing fails;
//
// and at the end that no descriptor and no goroutine is left. A step's sessions and faults are a function of the seed,
// which is printed and, given as DISPATCH_MODEL_SEED, replays. CI_LONG=1 makes it go on for ten minutes, and
// DISPATCH_MODEL_TIME for as long as it says; give go test a -timeout to match.
func TestModel(t *testing.T) {
	seed, length := rand.Uint64(), modelTime
	if os.Getenv("CI_LONG") == "1" {
		length = modelLong
	}
	var err error
	if text := os.Getenv("DISPATCH_MODEL_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("DISPATCH_MODEL_TIME"); text != "" {
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("DISPATCH_MODEL_SEED=%d", seed)
	m := newModel(t, seed)
	end := time.Now().Add(length)
	for !t.Failed() && (time.Now().Before(end) || m.steps < 2) {
		m.step()
	}
	m.finish()
	t.Logf("%d steps with %d sessions, of which ended whole: %v", m.steps, len(m.sessions), m.whole)
	for _, p := range modelProtocols {
		if !t.Failed() && m.whole[p] == 0 {
			t.Errorf("no %s session came to its end: this run has shown nothing", p)
		}
	}
}

// model is the gateway and everything around it.
type model struct {
	t        *testing.T
	seed     uint64
	steps    int
	lab      *netlab.Lab
	strays   func() []string
	origins  []*modelOrigin
	clients  []*modelClient
	records  modelRecords
	gateway  *modelGateway
	patience time.Duration // of clients, in this step
	whole    map[modelProtocol]int

	unheard    map[modelWay]*modelSession // those that had left before the gateway read what they asked, as far as we know
	renumbered atomic.Int64
	before     dispatcher.Snapshot
	leaks      goleak.Option
	idle, none []string // the descriptors of the gateway at rest, and those without it

	mu       sync.Mutex
	sessions []*modelSession // by their ID
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, seed: seed, lab: netlab.New(t, netlab.Config{}), whole: map[modelProtocol]int{}, unheard: map[modelWay]*modelSession{}}
	m.records.wrong = m.wrong
	m.strays = m.lab.WatchStrays(t)
	for i := range modelOrigins {
		o := &modelOrigin{model: m, name: fmt.Sprintf("origin%d.test", i), addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 1, byte(i)})}}
		if i%2 == 0 {
			o.addrs = append(o.addrs, netip.AddrFrom16(withLast(m.lab.Server6.As16(), byte(100+i))))
		}
		o.conns, o.down = map[*net.TCPConn]bool{}, 1
		m.origins = append(m.origins, o)
		m.lab.ServerAddr(o.addrs...)
	}
	names := m.serveNames()
	m.leaks, m.none = goleak.IgnoreCurrent(), descriptors(t)
	m.gateway = startModelGateway(t, slog.New(&m.records), names)
	// It opens what it follows the kernel's news with a moment later.
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		m.idle = descriptors(t)
	}
	for _, o := range m.origins {
		o.open()
	}
	for i := range modelClients {
		m.clients = append(m.clients, &modelClient{model: m, from: netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)})})
	}
	return m
}

// wrong fails the test, with what is needed to repeat it.
func (m *model) wrong(format string, args ...any) {
	m.t.Errorf("seed %d, step %d: %s", m.seed, m.steps, fmt.Sprintf(format, args...))
}

// session returns that of an ID, nil if there is none.
func (m *model) session(id uint64) *modelSession {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id >= uint64(len(m.sessions)) {
		return nil
	}
	return m.sessions[id]
}

// lineOf names the line whose address it is.
func (m *model) lineOf(a netip.Addr) string {
	for i := range 3 {
		if u := m.lab.Uplink(i); u.IPv4.Masked().Contains(a) || u.IPv6.Masked().Contains(a) {
			return u.Name
		}
	}
	return "no line"
}

// step has all clients make some sessions while up to three verbs happen, waits until all has come to rest, and checks it.
// One step in four is calm.
func (m *model) step() {
	m.steps++
	r := rand.New(rand.NewPCG(m.seed, uint64(m.steps)))
	verbs := r.IntN(4)
	begun := m.draw(r, verbs == 0)
	m.patience = 4 * time.Second
	if verbs == 0 {
		m.patience = 20 * time.Second // this machine may be busy
	}
	started := time.Now()
	var running sync.WaitGroup
	for i, c := range m.clients {
		running.Go(func() { c.run(begun[i]) })
	}
	what := "calm"
	if verbs > 0 {
		what = ""
	}
	lines := r.Perm(3)
	for i := range verbs {
		v, delay, hold := modelVerbs[r.IntN(len(modelVerbs))], r.IntN(200), 50+r.IntN(1000)
		own := rand.New(rand.NewPCG(m.seed, r.Uint64()))
		what += fmt.Sprintf("; %s (%d), for %d ms after %d ms", v.name, lines[i], hold, delay)
		running.Go(func() {
			time.Sleep(time.Duration(delay) * time.Millisecond)
			undo := v.do(m, lines[i], own)
			time.Sleep(time.Duration(hold) * time.Millisecond)
			undo()
		})
	}
	running.Wait()
	worked := time.Since(started)
	m.rest(verbs == 0)
	whole := m.check(slices.Concat(begun...), verbs == 0)
	m.t.Logf("step %d, %s and %s to rest: %d of %d sessions whole; %s", m.steps, worked.Round(time.Millisecond),
		(time.Since(started) - worked).Round(time.Millisecond), whole, len(slices.Concat(begun...)), strings.TrimPrefix(what, "; "))
}

// draw makes a step's sessions, by client.
func (m *model) draw(r *rand.Rand, calm bool) [][]*modelSession {
	m.mu.Lock()
	defer m.mu.Unlock()
	begun := make([][]*modelSession, len(m.clients))
	for i := range begun {
		for range 1 + r.IntN(4) {
			s := newModelSession(newModelPlan(r, uint64(len(m.sessions)), m.origins, calm))
			m.sessions = append(m.sessions, s)
			begun[i] = append(begun[i], s)
		}
	}
	return begun
}

// rest waits until the gateway has no session and the origins have nothing under way. An origin whose line has taken the
// end of a connection with it waits for ever: it is broken off, unless the step was calm.
func (m *model) rest(calm bool) {
	time.Sleep(50 * time.Millisecond) // for it to read what clients have asked that left at once
	if !m.until(30*time.Second, func() bool { return m.gateway.snapshot().All.Live == 0 }) {
		m.wrong("%d sessions have not ended 30 s after their clients", m.gateway.snapshot().All.Live)
	}
	// A record is written just after its session has been counted. Those that are missing are told of by check.
	m.until(2*time.Second, func() bool { return m.records.count() == m.gateway.snapshot().All.Total })
	patience := time.Second
	if calm {
		patience = 10 * time.Second
	}
	underWay := func() (n int) {
		for _, o := range m.origins {
			n += o.underWay()
		}
		return n
	}
	if m.until(patience, func() bool { return underWay() == 0 }) {
		return
	}
	if calm {
		m.wrong("%d connections of origins have not ended %s after their sessions", underWay(), patience)
	}
	for _, o := range m.origins {
		o.reset(false)
	}
	if !m.until(10*time.Second, func() bool { return underWay() == 0 }) {
		m.wrong("%d origins do not end", underWay())
	}
}

// until waits for something, and reports whether it came.
func (m *model) until(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// judge reports what is wrong with a session.
func (m *model) judge(s *modelSession, records []modelRecord, calm bool) {
	for _, text := range s.judge(records, calm) {
		m.wrong("session %d by %v, %+v: %s; records %+v, failed %v", s.id, s.way, *s.modelPlan, text, records, s.failed)
	}
}

// check judges a step's sessions and the accounts. It returns how many sessions ended whole, at both ends.
func (m *model) check(sessions []*modelSession, calm bool) (whole int) {
	records := m.records.take()
	byClient := map[modelWay][]modelRecord{}
	for _, r := range records {
		byClient[r.way()] = append(byClient[r.way()], r)
	}
	for _, s := range sessions {
		// A client's requests have their records one after the other; a tunnel has its connection for itself.
		own := byClient[s.way]
		if s.protocol == modelHTTP {
			own = own[:min(1, len(own))]
		}
		byClient[s.way] = byClient[s.way][len(own):]
		m.judge(s, own, calm)
		if len(own) == 0 {
			m.unheard[s.way] = s
		}
		if s.client.whole.Load() && s.client.finished.Load() {
			whole++
			m.whole[s.protocol]++
		}
	}
	for _, left := range byClient {
		for _, r := range left {
			if s := m.unheard[r.way()]; s != nil {
				delete(m.unheard, r.way())
				m.judge(s, []modelRecord{r}, false)
				continue
			}
			m.wrong("a record that belongs to no session: %+v", r)
		}
	}
	for _, text := range m.strays() {
		m.wrong("a packet by a line not chosen: %s", text)
	}
	now := m.gateway.snapshot()
	for _, text := range compareAccounts(m.before, now, records) {
		m.wrong("%s", text)
	}
	m.before = now
	return whole
}

// finish ends the clients and the origins, looks for what the gateway keeps of them, and ends the gateway.
func (m *model) finish() {
	for _, c := range m.clients {
		if c.web != nil {
			c.web.Close()
		}
	}
	for _, o := range m.origins {
		o.shut()
		o.reset(true)
		o.serving.Wait()
	}
	// A kept connection whose origin's reset was lost on a line that failed goes with its address.
	for line := range 3 {
		m.readdress(line)
	}
	m.rejoin("the gateway at rest", m.idle)
	if err := m.gateway.stop(); err != nil {
		m.wrong("ending the gateway: %v", err)
	}
	m.rejoin("all", m.none)
	var err error
	if !m.until(5*time.Second, func() bool { err = goleak.Find(m.leaks); return err == nil }) {
		m.wrong("%v", err)
	}
}

// rejoin waits until the descriptors are those that there were.
func (m *model) rejoin(what string, base []string) {
	var now []string
	// A look-up that clients share goes on to its own end when they have left.
	if !m.until(30*time.Second, func() bool { now = descriptors(m.t); return len(now) <= len(base) }) {
		now = slices.DeleteFunc(now, func(d string) bool { return slices.Contains(base, d) })
		m.wrong("descriptors of %s that are left: %q", what, now)
	}
}

// descriptors lists what this process has open.
func descriptors(t *testing.T) (all []string) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // the one that the list was read from
		}
		if fd, err := strconv.Atoi(e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			local, _ := unix.Getsockname(fd)
			peer, _ := unix.Getpeername(fd)
			target += fmt.Sprintf(" %+v %+v", local, peer)
		}
		all = append(all, e.Name()+" "+target)
	}
	return all
}
