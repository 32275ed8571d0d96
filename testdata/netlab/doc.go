// Package netlab builds test networks that do not lie: a client machine with several lines to the internet,
// an ISP behind each line that behaves as an ISP does, and an internet with servers in it, all in network
// namespaces of the test's own. Nothing leaves the machine, nothing but Go is needed.
//
// # The client machine is the test process
//
// A network namespace belongs to a thread and goroutines wander between threads, so the whole test binary is run
// again inside a new, empty network namespace, before the first test. Inside, every goroutine of the process is
// on the client machine and plain net.Dial leaves by the lab's lines. TestMain says so:
//
//	func TestMain(m *testing.M) { netlab.Main(m) }
//
// With goleak, or with the commands of testscript (which must not be moved into yet another namespace, and are
// not, because only Run moves the process):
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(netlab.Wrap(m)) }
//	func TestMain(m *testing.M) { testscript.Main(netlab.Wrap(m), commands) }
//
// Outside of a Lab the process sees a machine with loopback only: tests on 127.0.0.1 and ::1 run as they always do.
// Commands that a test starts are on the client machine too. /sys shows its own devices, and nothing mounted below it.
//
// Root is needed, or a kernel that lets users make user namespaces (inside, the user is then uid 0). Where
// neither holds, and on systems other than Linux, the tests run outside: [New] skips, a banner on stderr says that
// the lab tests did not run, and with DISPATCH_REQUIRE_NETLAB=1 in the environment they fail instead. Note that
// "go test ./..." shows the output of a passing package only with -v; an automatic run sets the variable.
//
// # The network
//
//	client (this process)       ISP i                       internet
//	  wan1  198.51.100.2  ---- .1  router  198.19.0.1 ---- .2  isp0
//	  wan2  203.0.113.2   ---- .1  router  198.19.1.1 ---- .2  isp1     servers on lo: 198.18.0.1, 2001:db8:5e::1, ...
//	  wan3  100.64.2.2    ---- .1  router  198.19.2.1 ---- .2  isp2
//
// An ISP forwards without translation, so a server sees the address of the line. It drops what carries a source
// address that is not of its line's prefix (BCP 38), and answers ARP and neighbour solicitations for its own
// gateway address only. IPv6 addresses are usable at once, without duplicate address detection.
//
// There is one client machine per process, so tests with a Lab run one after the other: New waits for the lab of
// another test to end. Packages are processes of their own and run side by side.
//
// Methods that change the network report a failure as an error of the test that made the Lab, and may be called
// from any goroutine while that test runs.
package netlab
