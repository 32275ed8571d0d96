// Command compare measures dispatch beside other proxies, on one machine, in paired rounds, and prints what it found
// as Markdown:
//
//	go run ./testdata/compare
//	go run ./testdata/compare -rounds 3 -only dispatch,microsocks -tests connect,trip
//	go run ./testdata/compare -binary 'other=/opt/other --listen {socks}' -user nobody -markdown table.md
//
// The rivals are those of Debian: microsocks, dante-server (danted), tinyproxy, squid, haproxy. One that is not installed
// is named on standard error and left out. Programs of other origin take part with -binary. dispatch itself is built
// from the module that the command is run in, and runs with its accounting and its log, as users have them; the
// rivals run with theirs off.
//
// # What a figure is
//
// A round measures every contender in every test once; the order of the contenders moves on by one each round. Right before
// a contender, or right after it in every other round, the same load runs without a proxy: shares and multiples of
// direct are between these two neighbours, for a machine that is busy with other things is so for both. What is shown
// is the median of the rounds, with the smallest and the largest.
//
// CPU time is that of the proxy's processes alone, from their CPU clocks: the load's client and server are processes of their
// own. On loopback the sender's system call carries a packet all the way into the receiver's socket, so that
// a figure contains work that on a real line is done by interrupts.
//
// # Safety
//
// The whole comparison runs inside new network, process and mount namespaces: there is no way out but loopback, all ports are free,
// and nothing that was started outlives the command. Root is needed, or a kernel that lets users make user namespaces (then without
// -user, and without the figures of kernel memory). Every measurement is bounded in amount and in time.
package main
