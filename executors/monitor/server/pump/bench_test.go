package pump

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkPump is the whole way from a pipe to a log, of lines of some lengths.
func BenchmarkPump(b *testing.B) {
	for _, size := range []int{20, 100, 1000, 100_000} {
		b.Run(fmt.Sprintf("lines of %d bytes", size), func(b *testing.B) {
			o := start(b, 0)
			if err := unix.SetNonblock(o.write, false); err != nil {
				b.Fatal(err)
			}
			block := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, size-1), '\n'), max(1, 64<<10/size))
			b.SetBytes(int64(len(block)))
			for i := 0; b.Loop(); i++ {
				for done := 0; done < len(block); {
					// A signal of the Go runtime may interrupt it.
					n, err := unix.Write(o.write, block[done:])
					if err != nil && err != unix.EINTR {
						b.Fatal(err)
					}
					done += max(0, n)
				}
				if i%1000 == 0 {
					// Keeps the disk from filling up.
					if err := os.Truncate(o.path, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			o.drained()
			unix.Close(o.write)
		})
	}
}
