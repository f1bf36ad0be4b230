package crdt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrOrderKey is wrapped by the errors about order keys.
var ErrOrderKey = errors.New("invalid order key")

// An order key is a number in base 62, whose digits sort bytewise as their values do: a head, as many digits as it
// says, and a fraction that does not end with a zero. The head gives the length of the integer, so that keys sort bytewise
// as their numbers do, and one more at either end lengthens keys only when a length is used up: 62 keys
// of two characters, then 3,844 of three, and so on. From the middle of the heads up integers rise; those below are negative.
const (
	orderDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	orderBase   = len(orderDigits)
	orderMiddle = orderBase / 2 // the head of the integers of one digit that are not negative
	firstDigit  = "0"
	lastDigit   = "z"
)

func digitValue(c byte) int { return strings.IndexByte(orderDigits, c) }

// integerDigits returns how many digits follow a head.
func integerDigits(head int) int {
	if head >= orderMiddle {
		return head - orderMiddle + 1
	}
	return orderMiddle - head
}

// OrderKeyBetween returns a key that sorts between a and b, for an ordered list that is kept as a map: its elements lie under
// order keys, and reading the map in order is reading the list. "" stands for no bound, so OrderKeyBetween("", "")
// is the key for the first element. Keys get longer slowly when elements are added at either end (a list of a
// million has keys of at most 5 characters), and by one character in about six insertions at one and the same place.
//
// Two replicas that insert at one place at the same time get the same key, and their elements become siblings of
// one field. Where that can happen use OrderKeyUnique.
func OrderKeyBetween(a, b string) (string, error) {
	if err := checkOrderBounds(a, b); err != nil {
		return "", err
	}
	return orderBetween(a, b)
}

// OrderKeyUnique is OrderKeyBetween with six more digits made of jitter, so that keys from different places are different
// but for one pair in 5·10^10 that was made of random jitter. The place at which several such elements were
// inserted at the same time has them in any order, the same everywhere.
func OrderKeyUnique(a, b string, jitter uint64) (string, error) {
	key, err := OrderKeyBetween(a, b)
	if err != nil {
		return "", err
	}
	for strings.HasPrefix(b, key) { // further digits could take it above b
		if key, err = orderBetween(key, b); err != nil {
			return "", err
		}
	}
	suffix := make([]byte, 6)
	suffix[5] = orderDigits[1+jitter%uint64(orderBase-1)] // a fraction does not end with a zero
	jitter /= uint64(orderBase - 1)
	for i := range 5 {
		suffix[i] = orderDigits[jitter%uint64(orderBase)]
		jitter /= uint64(orderBase)
	}
	return key + string(suffix), nil
}

// OrderKeys returns n keys in ascending order between a and b, spread so that they stay short. "" stands for no bound.
func OrderKeys(a, b string, n int) ([]string, error) {
	if n < 0 {
		return nil, fmt.Errorf("%w: %d keys were asked for", ErrOrderKey, n)
	}
	if err := checkOrderBounds(a, b); err != nil {
		return nil, err
	}
	return appendOrderKeys(make([]string, 0, n), a, b, n)
}

func appendOrderKeys(keys []string, a, b string, n int) ([]string, error) {
	var err error
	start := len(keys)
	switch {
	case n == 0:
		return keys, nil
	case b == "" || a == "": // one after the other from the end that is bound, or from the first key on
		if b != "" {
			for range n {
				if b, err = orderBetween("", b); err != nil {
					return nil, err
				}
				keys = append(keys, b)
			}
			slices.Reverse(keys[start:])
			return keys, nil
		}
		for range n {
			if a, err = orderBetween(a, ""); err != nil {
				return nil, err
			}
			keys = append(keys, a)
		}
		return keys, nil
	}
	middle, err := orderBetween(a, b)
	if err != nil {
		return nil, err
	}
	if keys, err = appendOrderKeys(keys, a, middle, n/2); err != nil {
		return nil, err
	}
	return appendOrderKeys(append(keys, middle), middle, b, n-n/2-1)
}

func checkOrderBounds(a, b string) error {
	for _, k := range []string{a, b} {
		if k != "" {
			if err := checkOrderKey(k); err != nil {
				return err
			}
		}
	}
	if b != "" && a >= b {
		return fmt.Errorf("%w: there is no key between %.80q and %.80q, which must be smaller", ErrOrderKey, a, b)
	}
	return nil
}

func checkOrderKey(k string) error {
	for i := range len(k) {
		if digitValue(k[i]) < 0 {
			return fmt.Errorf("%w: %.80q has the character %q: use keys that OrderKeyBetween returned", ErrOrderKey, k, k[i])
		}
	}
	n := 1 + integerDigits(digitValue(k[0]))
	if len(k) < n || len(k) > n && strings.HasSuffix(k, firstDigit) {
		return fmt.Errorf("%w: %.80q is cut short or ends with 0: use keys that OrderKeyBetween returned", ErrOrderKey, k)
	}
	return nil
}

// splitOrderKey returns integer (with its head) and fraction.
func splitOrderKey(k string) (integer, fraction string) {
	n := 1 + integerDigits(digitValue(k[0]))
	return k[:n], k[n:]
}

func orderBetween(a, b string) (string, error) {
	switch {
	case a == "" && b == "":
		return orderDigits[orderMiddle:orderMiddle+1] + firstDigit, nil
	case a == "":
		integer, fraction := splitOrderKey(b)
		if fraction != "" {
			return integer, nil
		}
		below, ok := stepInteger(integer, -1)
		if !ok {
			return "", fmt.Errorf("%w: there is no key below %.80q", ErrOrderKey, b)
		}
		return below, nil
	}
	integer, fraction := splitOrderKey(a)
	above, ok := stepInteger(integer, +1)
	if ok && (b == "" || above < b) {
		return above, nil
	}
	if b != "" {
		if bInteger, bFraction := splitOrderKey(b); bInteger == integer {
			return integer + fractionBetween(fraction, bFraction), nil
		}
	}
	return integer + fractionBetween(fraction, ""), nil
}

// stepInteger returns the integer one above or one below; false if the heads are used up.
func stepInteger(integer string, step int) (string, bool) {
	digits := []byte(integer)
	last, next := lastDigit[0], firstDigit[0]
	if step < 0 {
		last, next = next, last
	}
	for i := len(digits) - 1; i > 0; i-- {
		if digits[i] != last {
			digits[i] = orderDigits[digitValue(digits[i])+step]
			return string(digits), true
		}
		digits[i] = next // and carry
	}
	head := digitValue(integer[0]) + step
	if head < 0 || head >= orderBase {
		return "", false
	}
	return orderDigits[head:head+1] + strings.Repeat(string(next), integerDigits(head)), true
}

// fractionBetween returns a fraction between a and b, of which "" as b means one. Neither ends with a zero, nor
// does the result.
func fractionBetween(a, b string) string {
	var prefix []byte
	for {
		low, high := 0, orderBase
		if a != "" {
			low = digitValue(a[0])
			a = a[1:]
		}
		if b != "" {
			high = digitValue(b[0])
		}
		switch {
		case low == high: // go on in both
			prefix = append(prefix, orderDigits[low])
			b = b[1:]
			continue
		case high-low > 1:
			return string(append(prefix, orderDigits[(low+high)/2]))
		case len(b) > 1: // b cut after this digit is below b and above a
			return string(append(prefix, orderDigits[high]))
		}
		prefix = append(prefix, orderDigits[low])
		b = "" // anything after the smaller digit is below b
	}
}
