package demo

import (
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// region is a country or territory with an ISO 3166 code.
type region struct {
	code   string
	region language.Region
}

func (g region) key() string { return regionKey(g.code) }

func regionKey(code string) string { return "region/" + code }

// name returns the region's name in a language, "" if it is not known.
func (g region) name(in language.Tag) string {
	n := display.Regions(in)
	if n == nil {
		return ""
	}
	return n.Name(g.region)
}

// world returns all regions of ISO 3166 in the order of their codes.
func world() []region {
	var all []region
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string(a) + string(b)
			r, err := language.ParseRegion(code)
			if err != nil || !r.IsCountry() || r.M49() == 0 || r.String() != code || r.Canonicalize() != r {
				continue
			}
			all = append(all, region{code, r})
		}
	}
	return all
}
