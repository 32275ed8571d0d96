package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// modelProtocol is how a client asks for a session.
type modelProtocol string

const (
	modelSOCKS5  modelProtocol = "SOCKS5"
	modelSOCKS4  modelProtocol = "SOCKS4"
	modelSOCKS4a modelProtocol = "SOCKS4a"
	modelCONNECT modelProtocol = "CONNECT"
	modelHTTP    modelProtocol = "HTTP"
)

// modelProtocols are all; HTTP, which has most variants, is drawn more often.
var modelProtocols = []modelProtocol{modelSOCKS5, modelSOCKS4, modelSOCKS4a, modelCONNECT, modelHTTP, modelHTTP, modelHTTP}

// modelEnding is what an end does when it has said enough.
type modelEnding int

const (
	endWithFIN   modelEnding = iota // sends all, then a FIN, and reads to the end
	endWithReset                    // resets at its cut
	endByClosing                    // closes at its cut: a FIN, or a reset if something was left unread
)

// modelPlan is what the two ends of a session are to do. It is a function of the seed.
type modelPlan struct {
	id       uint64
	protocol modelProtocol
	host     string // as the client asks for it
	origin   *modelOrigin
	eager    bool      // the client sends before it is answered
	leaves   bool      // the client resets while the gateway still connects
	fresh    bool      // HTTP: on a new connection of the client's
	chunked  bool      // HTTP: the request's body
	framing  int       // HTTP: of the response; see modelOrigin
	asks     modelPart // the client's
	answers  modelPart // the origin's
}

// modelPart is one end's part in a plan.
type modelPart struct {
	length  int64 // of what it sends
	piece   int   // bytes that it sends at a time
	pauseAt int64 // bytes sent, and received, before which it pauses
	pause   time.Duration
	ending  modelEnding
	cut     int64 // bytes sent, or with cutReceived received, at which it ends otherwise than with a FIN
	cutIn   bool
}

// clean tells whether both ends go to the end of what they have to say.
func (p *modelPlan) clean() bool {
	return !p.leaves && p.asks.ending == endWithFIN && p.answers.ending == endWithFIN
}

// newModelPlan draws a plan. Unless all is calm, no client just closes: that is a FIN to the gateway, which then cannot
// tell that the client has left; and where a fault has lost the origin's reset as well, the session rightly goes on.
func newModelPlan(r *rand.Rand, id uint64, origins []*modelOrigin, calm bool) *modelPlan {
	p := &modelPlan{id: id, origin: origins[r.IntN(len(origins))]}
	p.protocol = modelProtocols[r.IntN(len(modelProtocols))]
	v4, v6, name := p.origin.addrs[0].String(), p.origin.addrs[len(p.origin.addrs)-1].String(), p.origin.name
	switch p.protocol {
	case modelSOCKS4:
		p.host = v4
	case modelSOCKS4a:
		p.host = name
	default:
		p.host = []string{v4, v6, name}[r.IntN(3)]
	}
	p.eager, p.leaves, p.fresh, p.chunked, p.framing = r.IntN(3) == 0, r.IntN(25) == 0, r.IntN(4) == 0, r.IntN(2) == 0, r.IntN(3)
	p.leaves = p.leaves && p.protocol != modelHTTP
	p.asks, p.answers = newModelPart(r), newModelPart(r)
	if p.asks.ending == endByClosing && !calm {
		p.asks.ending = endWithReset
	}
	if p.protocol == modelHTTP && r.IntN(2) == 0 {
		p.asks.length = 0 // GET
	}
	for _, end := range []*modelPart{&p.asks, &p.answers} {
		length := end.length
		if end.cutIn = r.IntN(2) == 0; end.cutIn {
			length = p.asks.length + p.answers.length - end.length
		}
		end.cut = int64(r.Float64() * float64(length+1))
		end.pauseAt = int64(r.Float64() * float64(end.length+1))
	}
	return p
}

func newModelPart(r *rand.Rand) modelPart {
	size := []int{1, 200, 5_000, 100_000, 100_000, 1_500_000}[r.IntN(6)]
	p := modelPart{length: int64(r.IntN(size)), piece: 1 + r.IntN(64<<10)}
	p.piece = max(p.piece, int(p.length/200))
	if r.IntN(4) == 0 {
		p.pause = time.Duration(r.IntN(400)) * time.Millisecond
	}
	p.ending = []modelEnding{endWithFIN, endWithFIN, endWithFIN, endWithFIN, endWithFIN, endWithFIN, endWithReset, endByClosing}[r.IntN(8)]
	return p
}

// modelWay is a client's connection: one port of the client's may be used with both of the gateway's.
type modelWay struct {
	client   netip.AddrPort
	listener string
}

// modelSession is a session of a plan, and what became of it.
type modelSession struct {
	*modelPlan
	way    modelWay
	client *modelEnd
	failed error // why the client never came to speak with the origin

	mu     sync.Mutex
	visits []*modelEnd // the origin's side: one for each connection or request that reached it
}

// visit begins the origin's side.
func (s *modelSession) visit(peer net.Addr) *modelEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &modelEnd{part: s.answers, out: modelStream(s.id, 1), in: modelStream(s.id, 0), inLength: s.asks.length, peer: peer.(*net.TCPAddr).AddrPort()}
	s.visits = append(s.visits, e)
	return e
}

func newModelSession(p *modelPlan) *modelSession {
	return &modelSession{modelPlan: p, client: &modelEnd{
		part: p.asks, out: modelStream(p.id, 0), in: modelStream(p.id, 1), inLength: p.answers.length,
	}}
}

// modelHello is the length of what a tunnel's client says first: which session it is.
const modelHello = 1 + 8

// modelEnd is one end of a session: its part, and what it did and saw, which is read after all have come to rest.
type modelEnd struct {
	part     modelPart
	out, in  modelContent
	inLength int64
	peer     netip.AddrPort // of an origin's

	sent     atomic.Int64 // bytes that its kernel has taken
	finished atomic.Bool  // it has said, or begun to say, that these were all
	received atomic.Int64
	whole    atomic.Bool // it was told that these were all
	killed   atomic.Bool // by the test
	broke    atomic.Bool // it has ended its connection as its part says, be it behind all that it had to say
	wrong    atomic.Pointer[string]

	rawIn, rawOut int64 // HTTP, an origin's: with heads and framing
}

// cutNow tells whether the part ends here, with sent or received bytes.
func (e *modelEnd) cutNow() bool {
	if e.part.ending == endWithFIN {
		return false
	}
	if e.part.cutIn {
		return e.received.Load() >= e.part.cut
	}
	return e.sent.Load() >= e.part.cut
}

// breakOff ends the connection as the part says; fin is whether a FIN says there that all was sent.
func (e *modelEnd) breakOff(c *net.TCPConn, fin bool) {
	e.broke.Store(true)
	if e.part.ending == endWithReset {
		resetConn(c)
		return
	}
	if fin {
		e.finished.Store(true)
	}
	c.Close()
}

// resetConn closes with a reset.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0) // it may be closed already
	c.Close()
}

// converse plays the part on a tunnel's connection, both ways at once, and closes the connection.
func (e *modelEnd) converse(c *net.TCPConn) {
	var sending sync.WaitGroup
	var sendErr error
	sending.Go(func() { sendErr = e.send(c) })
	e.receive(c)
	sending.Wait()
	if sendErr != nil {
		e.whole.Store(false) // the kernel tells of a reset once: who reads after who wrote is told of an end
	}
	if e.whole.Load() && e.finished.Load() {
		c.Close()
	} else {
		resetConn(c)
	}
}

func (e *modelEnd) send(c *net.TCPConn) error {
	buf := make([]byte, e.part.piece)
	for paused := false; ; {
		sent := e.sent.Load()
		if e.cutNow() {
			e.breakOff(c, true)
			return nil
		}
		if !paused && sent >= e.part.pauseAt {
			paused = true
			time.Sleep(e.part.pause)
		}
		if sent >= e.part.length {
			break
		}
		n, err := c.Write(e.out.fill(buf[:min(e.next(sent), int64(len(buf)))], sent))
		e.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
	if e.part.ending != endWithFIN {
		return nil // it waits for its cut in what it receives
	}
	e.finished.Store(true)
	return c.CloseWrite()
}

// next is how much is sent at most before there is something else to be done.
func (e *modelEnd) next(sent int64) int64 {
	n := e.part.length - sent
	if e.part.ending != endWithFIN && !e.part.cutIn && e.part.cut > sent {
		n = min(n, e.part.cut-sent)
	}
	return n
}

func (e *modelEnd) receive(c *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		e.take(buf[:n])
		if err != nil {
			e.whole.Store(errors.Is(err, io.EOF))
			return
		}
		if e.part.cutIn && e.cutNow() {
			e.breakOff(c, true)
			return
		}
	}
}

// take checks bytes that have come in.
func (e *modelEnd) take(p []byte) {
	at := e.received.Load()
	if at+int64(len(p)) > e.inLength {
		e.complain("%d bytes came of %d that were to be sent", at+int64(len(p)), e.inLength)
		p = p[:max(0, e.inLength-at)]
	}
	if want := e.in.fill(make([]byte, len(p)), at); !bytes.Equal(p, want) {
		e.complain("a byte is wrong among %d from offset %d", len(p), at)
	}
	e.received.Add(int64(len(p)))
}

func (e *modelEnd) complain(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.wrong.CompareAndSwap(nil, &text)
}

// modelContent is an endless stream of bytes: a place in a ring of random ones.
type modelContent int64

// modelRing's length is a prime: pieces that were swapped or repeated do not look alike.
var modelRing = func() []byte {
	ring := make([]byte, 65521)
	_, _ = rand.NewChaCha8([32]byte{}).Read(ring)
	return ring
}()

// modelStream is what a session sends in a direction.
func modelStream(id uint64, direction uint64) modelContent {
	return modelContent(rand.NewPCG(id, direction).Uint64() % uint64(len(modelRing)))
}

// fill puts the stream's bytes from an offset on into p, and returns it.
func (c modelContent) fill(p []byte, offset int64) []byte {
	for at, n := (int64(c)+offset)%int64(len(modelRing)), 0; n < len(p); at = 0 {
		n += copy(p[n:], modelRing[at:])
	}
	return p
}

// judge says what is wrong with a session whose ends have come to rest, given its records.
func (s *modelSession) judge(records []modelRecord, calm bool) (wrong []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, e := range append(slices.Clone(s.visits), s.client) {
		if text := e.wrong.Load(); text != nil {
			complain("%s", *text)
		}
	}
	if len(records) > 1 || len(records) == 0 && !s.mayBeUnheard() {
		complain("%d records", len(records))
		return wrong
	}
	if calm && s.clean() && !(s.client.whole.Load() && s.client.finished.Load()) && (s.protocol != modelHTTP || s.asks.length == 0) {
		complain("it broke off although nothing was wrong: %v", s.failed)
	}
	last := s.answering(records)
	if s.client.whole.Load() && (last == nil || !last.finished.Load() || last.sent.Load() != s.client.received.Load()) {
		complain("the client took a part for the whole: %d bytes", s.client.received.Load())
	}
	for _, v := range s.visits {
		if v.whole.Load() && (!s.client.finished.Load() || v.received.Load() != s.client.sent.Load()) {
			complain("the origin took a part for the whole: %d bytes of %d", v.received.Load(), s.client.sent.Load())
		}
	}
	if len(s.visits) > 1 && (s.protocol != modelHTTP || s.asks.length > 0) {
		complain("the origin saw it %d times", len(s.visits))
	}
	if len(records) == 1 {
		wrong = append(wrong, s.judgeRecord(&records[0], last)...)
	} else if last != nil {
		complain("it reached the origin and has no record")
	}
	return wrong
}

// answering is the visit that the record is of: by its line, and finished, if there are several. A request that was repeated
// may be seen again after the answer to its repetition, when its first line has come back.
func (s *modelSession) answering(records []modelRecord) (best *modelEnd) {
	most := -1
	for _, v := range s.visits {
		rank := 0
		if v.finished.Load() {
			rank = 1
		}
		if len(records) == 1 && s.origin.model.lineOf(v.peer.Addr()) == records[0].uplink {
			rank += 2
		}
		if rank >= most {
			best, most = v, rank
		}
	}
	return best
}

// mayBeUnheard tells whether the gateway may never have read the request: the client's reset overtook it.
func (s *modelSession) mayBeUnheard() bool {
	return len(s.visits) == 0 && (s.leaves || s.client.killed.Load() || s.protocol == modelHTTP && s.asks.ending != endWithFIN)
}

func (s *modelSession) judgeRecord(r *modelRecord, last *modelEnd) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if r.host != s.host || r.protocol != s.protocol.inRecords() {
		complain("the record is of %s to %s", r.protocol, r.host)
	}
	if last == nil {
		if r.class == "" && !s.leaves {
			complain("the record tells of a clean end, and the origin saw nothing")
		}
		return wrong
	}
	if !s.origin.has(r.destination) {
		complain("the record's destination is %s", r.destination)
	}
	// A request that was repeated, and broke off again, may have been heard by its first line only.
	if line := s.origin.model.lineOf(last.peer.Addr()); line != r.uplink && (s.protocol != modelHTTP || r.class == "") {
		complain("it came by %s, and the record says %s", line, r.uplink)
	}
	if r.class == "" && !last.finished.Load() {
		complain("the record tells of a clean end, and the origin made none")
	}
	if s.protocol != modelHTTP {
		up, down := [2]int64{modelHello + last.received.Load(), modelHello + s.client.sent.Load()}, [2]int64{s.client.received.Load(), last.sent.Load()}
		if r.up < up[0] || r.up > up[1] || r.down < down[0] || r.down > down[1] {
			complain("the record counts %d up and %d down; the ends %v and %v", r.up, r.down, up, down)
		}
		if r.class == "" && !s.client.finished.Load() {
			complain("the record tells of a clean end, and the client made none")
		}
		return wrong
	}
	var in, out int64
	for _, v := range s.visits {
		in, out = in+v.rawIn, out+v.rawOut
	}
	if r.up < in || r.down > out {
		complain("the record counts %d up and %d down; the origin took %d and gave %d", r.up, r.down, in, out)
	}
	// What was sent on a kept connection whose origin had left counts too.
	if r.class == "" && (r.down != last.rawOut || r.up%last.rawIn != 0) && len(s.visits) == 1 && last.whole.Load() {
		complain("the record counts %d up and %d down; the origin %d and %d", r.up, r.down, last.rawIn, last.rawOut)
	}
	return wrong
}
