package httpproxy

import (
	"bufio"
	"io"
	"sync"
)

const (
	// smallBuffer is that of each direction of a link, and what bodies are copied with that come slowly.
	smallBuffer = 4 << 10
	// largeBuffer is what bodies are copied with that come fast.
	largeBuffer = 32 << 10
)

type (
	smallArray [smallBuffer]byte
	largeArray [largeBuffer]byte
)

// buffers are what requests borrow.
type buffers struct {
	readers, writers, small, large sync.Pool
}

func (b *buffers) init() {
	b.readers.New = func() any { return bufio.NewReaderSize(nil, smallBuffer) }
	b.writers.New = func() any { return bufio.NewWriterSize(nil, smallBuffer) }
	b.small.New = func() any { return new(smallArray) }
	b.large.New = func() any { return new(largeArray) }
}

// copier lends the buffer to copy a body with: a small one while little comes, for a slow body may last for hours,
// and a large one once a read has filled the small one.
type copier struct {
	b     *buffers
	fast  bool
	small *smallArray // at most one of the two is held
	large *largeArray
}

// read returns what one Read of src brought; it is valid until the next call. The caller calls release at the end.
func (c *copier) read(src io.Reader) ([]byte, error) {
	if c.fast != (c.large != nil) {
		c.release()
	}
	var buf []byte
	if c.fast {
		if c.large == nil {
			c.large, _ = c.b.large.Get().(*largeArray)
		}
		buf = c.large[:]
	} else {
		if c.small == nil {
			c.small, _ = c.b.small.Get().(*smallArray)
		}
		buf = c.small[:]
	}
	n, err := src.Read(buf)
	c.fast = n >= smallBuffer
	return buf[:n], err
}

func (c *copier) release() {
	if c.small != nil {
		c.b.small.Put(c.small)
	}
	if c.large != nil {
		c.b.large.Put(c.large)
	}
	c.small, c.large = nil, nil
}
