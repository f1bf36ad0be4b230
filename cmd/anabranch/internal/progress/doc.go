// Package progress shows how far long work is, on standard error: as a bar on a terminal, as a line of JSON a second for programs, or not at
// all. The work reports as often as it likes; what is shown is limited here.
package progress
