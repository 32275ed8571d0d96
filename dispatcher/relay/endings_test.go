package relay

import (
	"runtime"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// endings are the ways a session may end. Each is told by what the applications
// do and what they must see, and returns the bytes that must have been counted.
var endings = []struct {
	name   string
	unix   bool // needs a poller that tells of a reset after a FIN
	linux  bool // needs a kernel that tells what is acknowledged
	racy   bool // worth many tries
	script func(r *rig)
}{
	{name: "client FIN first", script: func(r *rig) {
		r.client.send(pattern(1, 1000))
		r.client.fin()
		r.server.getsFIN(1000) // at once: the server has not ended
		for i := range 3 {     // and may go on for as long as it likes
			data := pattern(uint64(i), 50_000)
			r.server.send(data)
			r.client.gets(data)
		}
		r.server.fin()
		r.client.getsFIN(0)
		r.endsClean()
		r.counted(1000, 150_000)
	}},
	{name: "destination FIN first", script: func(r *rig) {
		r.server.send(pattern(1, 1000))
		r.server.fin()
		r.client.getsFIN(1000)
		for i := range 3 {
			data := pattern(uint64(i), 50_000)
			r.client.send(data)
			r.server.gets(data)
		}
		r.client.fin()
		r.server.getsFIN(0)
		r.endsClean()
		r.counted(150_000, 1000)
	}},
	{name: "both FIN at once", script: func(r *rig) {
		r.client.send(pattern(1, 70_000))
		r.server.send(pattern(2, 80_000))
		r.client.fin()
		r.server.fin()
		r.client.getsFIN(80_000)
		r.server.getsFIN(70_000)
		r.endsClean()
		r.counted(70_000, 80_000)
	}},
	{name: "FIN without a byte", script: func(r *rig) {
		r.client.fin()
		r.server.getsFIN(0)
		r.server.fin()
		r.client.getsFIN(0)
		r.endsClean()
		r.counted(0, 0)
	}},
	{name: "client reset", script: func(r *rig) {
		r.client.send(pattern(1, 1000))
		r.server.gets(pattern(1, 1000))
		r.client.reset()
		r.server.getsReset(0)
		r.endsReset(Client)
		r.counted(1000, 0)
	}},
	{name: "destination reset", script: func(r *rig) {
		r.server.send(pattern(1, 1000))
		r.client.gets(pattern(1, 1000))
		r.server.reset()
		r.client.getsReset(0)
		r.endsReset(Destination)
		r.counted(0, 1000)
	}},
	{name: "both reset at once", script: func(r *rig) {
		r.client.reset()
		r.server.reset()
		if err := r.end(); !loopback.IsBroken(err) {
			r.tb.Errorf("the relay ended with %v, want a reset", err)
		}
		r.counted(0, 0)
	}},
	{name: "reset right behind a body", linux: true, script: func(r *rig) {
		// What the destination had sent is not swallowed by its reset. (It
		// has arrived at the relay, for the reset would destroy it on its way.)
		r.server.send(pattern(1, 100_000))
		r.counted(0, 100_000)
		r.server.reset()
		if n := r.client.getsReset(100_000); n != 100_000 {
			r.tb.Errorf("got %d bytes", n)
		}
		r.endsReset(Destination)
	}},
	{name: "reset behind a body that the client is slow to take", linux: true, script: func(r *rig) {
		const size = 400_000
		r.server.send(pattern(1, size))
		r.counted(0, size)
		if queued(r.nearTCP) == 0 {
			r.tb.Fatal("the client's kernel took everything: nothing is tested")
		}
		r.server.reset()
		time.Sleep(patienceReset / 5)
		r.client.gets(pattern(1, size))
		r.client.getsReset(0)
		r.endsReset(Destination)
	}},
	{name: "FIN and reset before either is read", linux: true, script: func(r *rig) {
		// The relay is busy with a slow client when both arrive.
		size := r.stall()
		r.server.fin()
		loopback.Eventually(r.tb, "the FIN to arrive", func() bool { return queued(r.server.tcp) == 0 })
		r.server.reset()
		r.client.getsFIN(size)
		r.client.broken()
		r.endsReset(Destination)
	}},
	{name: "reset in the midst of an upload", racy: true, script: func(r *rig) {
		// The upload meets the reset first, and takes its error away from the
		// other direction: which must not take the end of data for a FIN.
		poured := r.client.pour()
		r.server.gets(make([]byte, 300_000))
		r.server.send(pattern(1, 1000))
		r.server.reset()
		r.client.getsResetWhilePouring(poured)
		r.endsReset(Destination)
	}},
	{name: "reset in the midst of a download", racy: true, script: func(r *rig) {
		poured := r.server.pour()
		r.client.gets(make([]byte, 300_000))
		r.client.send(pattern(1, 1000))
		r.client.reset()
		r.server.getsResetWhilePouring(poured)
		r.endsReset(Client)
	}},
	{name: "client FIN then reset, destination sends", script: func(r *rig) {
		r.client.send(pattern(1, 1000))
		r.client.fin()
		r.server.getsFIN(1000)
		r.client.reset()
		r.server.broken()
		r.endsReset(Client)
	}},
	{name: "client FIN then reset, destination silent", unix: true, script: func(r *rig) {
		r.client.fin()
		r.server.getsFIN(0)
		r.client.reset()
		r.endsReset(Client)
		if runtime.GOOS == "linux" {
			r.server.broken()
		}
	}},
	{name: "destination FIN then reset, client silent", unix: true, script: func(r *rig) {
		r.server.send(pattern(1, 1000))
		r.server.fin()
		r.client.getsFIN(1000)
		r.server.reset()
		r.endsReset(Destination)
		r.client.broken()
		r.counted(0, 1000)
	}},
	{name: "destination FIN then reset, client sends", script: func(r *rig) {
		r.server.send(pattern(1, 1000))
		r.server.fin()
		r.client.getsFIN(1000)
		r.server.reset()
		r.client.broken()
		r.endsReset(Destination)
	}},
	{name: "upload complete, then reset before it was read", linux: true, script: func(r *rig) {
		// More than the server's kernel takes unread, so that part of it is
		// still with the relay when the client breaks off.
		const size = 400_000
		r.client.send(pattern(1, size))
		r.client.fin()
		r.counted(size, 0)
		if queued(r.farTCP) == 0 {
			r.tb.Fatal("the server's kernel took everything: nothing is tested")
		}
		r.client.reset()
		r.server.gets(pattern(1, size))
		r.server.getsFIN(0)
		r.server.broken()
		r.endsReset(Client)
		r.counted(size, 0)
	}},
	{name: "answer and close in the midst of an upload", linux: true, racy: true, script: func(r *rig) {
		// As a server does that refuses a body: it answers and closes, and
		// its kernel resets because there was data that it had not read. The
		// answer gets through.
		poured := r.client.pour()
		r.server.gets(make([]byte, 1000))
		r.server.send(pattern(1, 50_000))
		must(r.tb, r.server.conn.Close())
		r.client.gets(pattern(1, 50_000))
		if err := <-poured; !loopback.IsBroken(err) {
			r.tb.Errorf("sending failed with %v, want a reset", err)
		}
		r.endsReset(Destination)
	}},
}

func TestEndings(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			for _, e := range endings {
				if e.unix && runtime.GOOS == "windows" || e.linux && runtime.GOOS != "linux" {
					continue // the package's documentation says so
				}
				t.Run(e.name, func(t *testing.T) {
					t.Parallel()
					times := 1
					if e.racy {
						times = 10
					}
					for range times {
						e.script(newRig(t, m.engine(), m.near, m.far))
					}
				})
			}
		})
	}
}
