// Package compare measures dispatch beside other proxies, on one machine, as Go benchmarks, whose rounds benchstat sums up:
//
//	go test -c ./testdata/compare
//	for round in 1 2 3 4 5; do unshare -pf --kill-child --mount-proc ./compare.test -test.bench . -test.run '^$'; done | tee rounds
//	benchstat -row /load -col /proxy rounds
//
// Names choose what is measured, and -proxy adds a program, such as another version of dispatch ({echo}, {bulk}, {web} are
// for one that forwards ports):
//
//	-test.bench 'Proxies/load=connect.*/proxy=(dispatch|microsocks|old)$' -proxy 'old=/tmp/dispatch-old start --socks {socks} lo'
//
// The rivals are those of Debian: microsocks, dante-server (danted), tinyproxy, squid, haproxy; one that is not installed is
// skipped. dispatch is built from the module, and runs with its accounting and its log, as users have them; the
// rivals run with theirs off.
//
// # What a figure is
//
// Right after each measurement the same load runs without a proxy: of-direct is the proxy's speed as a share of
// that neighbour's, for a machine that is busy with other things is so for both.
//
// CPU time is that of the proxy's processes alone; client and server are in the test's. On loopback the sender's system call
// carries a packet all the way into the receiver's socket, so that it contains work that on a real line is done by interrupts.
//
// An idle session was used for one byte each way and stays open, in a fresh process. Resident memory is the proportional set
// size, half a second later (first) and six seconds later. Kernel memory is an estimate: objects in use in the kernel's caches
// for sockets, open files, epoll and packet buffers, less those of a session without a proxy, and the process's threads
// and page tables.
//
// All runs in a network namespace of its own, which netlab makes: there is no way out but loopback, and all ports are free.
// With unshare, as above, nothing outlives a run that is cut off; without it, servers that give up root may.
package compare
