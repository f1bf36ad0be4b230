//go:build linux

package main

import (
	"math/rand/v2"
	"time"
)

// shape is what a network looks like for a while.
type shape struct {
	name string
	set  func(w *wires, rng *rand.Rand)
	// again, if not nil, changes it now and then, in the mean as often as every says.
	again func(w *wires, rng *rand.Rand)
	every time.Duration
	long  bool // it lasts three times as long as others
}

// shapes are gone through one after the other.
var shapes = []shape{
	{name: "split", set: split},
	{name: "random", set: anyLinks, again: anyLink, every: time.Second},
	{name: "ring", set: ring},
	{name: "one-way", set: oneWay},
	{name: "flapping", set: func(*wires, *rand.Rand) {}, again: anyLink, every: 100 * time.Millisecond},
	{name: "long apart", set: apart, long: true},
	{name: "chain", set: chain},
}

// split makes two sides.
func split(w *wires, rng *rand.Rand) {
	order := rng.Perm(len(w.names))
	side := make(map[int]bool)
	for _, i := range order[:1+rng.IntN(len(order)-1)] {
		side[i] = true
	}
	w.only(func(i, j int) bool { return side[i] == side[j] })
}

// anyLinks keeps each cable with probability 0.4.
func anyLinks(w *wires, rng *rand.Rand) { w.only(func(int, int) bool { return rng.Float64() < 0.4 }) }

// anyLink pulls or plugs one cable.
func anyLink(w *wires, rng *rand.Rand) {
	i := rng.IntN(len(w.names))
	j := (i + 1 + rng.IntN(len(w.names)-1)) % len(w.names)
	w.plug(i, j, !w.up[[2]int{min(i, j), max(i, j)}])
}

// ring leaves each node two neighbours.
func ring(w *wires, rng *rand.Rand) {
	place := places(len(w.names), rng)
	n := len(place)
	w.only(func(i, j int) bool {
		apart := (place[i] - place[j] + n) % n
		return apart == 1 || apart == n-1
	})
}

// chain lets what the first writes reach the last through all others only.
func chain(w *wires, rng *rand.Rand) {
	place := places(len(w.names), rng)
	w.only(func(i, j int) bool { return place[i]-place[j] == 1 || place[j]-place[i] == 1 })
}

func places(n int, rng *rand.Rand) []int {
	place := make([]int, n)
	for at, i := range rng.Perm(n) {
		place[i] = at
	}
	return place
}

// oneWay makes some nodes deaf to some others: those hear them, and are not heard.
func oneWay(w *wires, rng *rand.Rand) {
	for i := range w.names {
		for j := range w.names {
			if i != j && rng.Float64() < 0.3 {
				w.deafen(i, j, true)
			}
		}
	}
}

// apart cuts one node off.
func apart(w *wires, rng *rand.Rand) {
	alone := rng.IntN(len(w.names))
	w.only(func(i, j int) bool { return i != alone && j != alone })
}

// only plugs the cables that joined names, and pulls all others.
func (w *wires) only(joined func(i, j int) bool) {
	for j := range w.names {
		for i := range j {
			w.plug(i, j, joined(i, j))
		}
	}
}
