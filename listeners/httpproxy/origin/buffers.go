package origin

import (
	"bufio"
	"errors"
	"io"
	"sync"
)

const (
	// smallBuffer is that of each direction of a link, and what bodies are copied with that come slowly.
	smallBuffer = 4 << 10
	// largeBuffer is what bodies are copied with that come fast.
	largeBuffer = 32 << 10
)

// buffers are what requests borrow.
type buffers struct {
	readers, writers sync.Pool // of *bufio.Reader, *bufio.Writer
	small, large     sync.Pool // of *[]byte
}

func (b *buffers) init() {
	b.readers.New = func() any { return bufio.NewReaderSize(nil, smallBuffer) }
	b.writers.New = func() any { return bufio.NewWriterSize(nil, smallBuffer) }
	sized := func(size int) func() any {
		return func() any {
			buf := make([]byte, size)
			return &buf
		}
	}
	b.small.New, b.large.New = sized(smallBuffer), sized(largeBuffer)
}

// copy writes to dst what src brings, as it comes, until its end. It holds a small buffer while little comes, for a slow
// body may last for hours, and a large one once a read has filled the small one.
func (b *buffers) copy(dst io.Writer, src io.Reader) (copied int64, err error) {
	pool := &b.small
	buf, _ := pool.Get().(*[]byte)
	defer func() { pool.Put(buf) }()
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			written, writeErr := dst.Write((*buf)[:n])
			copied += int64(written)
			if writeErr != nil {
				return copied, writeErr
			}
		}
		if errors.Is(err, io.EOF) {
			return copied, nil
		}
		if err != nil {
			return copied, err
		}
		next := &b.small
		if n >= smallBuffer {
			next = &b.large
		}
		if next != pool {
			pool.Put(buf)
			pool = next
			buf, _ = pool.Get().(*[]byte)
		}
	}
}
