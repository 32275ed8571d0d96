package doctor_test

import (
	"testing"

	"dispatch/dispatcher/doctor"
)

// What is quoted is one word to a shell, whatever it holds.
func TestQuote(t *testing.T) {
	for _, text := range []string{"eth0", "wg-home", "", "a b", "$(id)", "it's", "a;b", "*"} {
		if got := output(t, "printf %s "+doctor.Quote(text)); got != text {
			t.Errorf("%q came to be %q", text, got)
		}
	}
}
