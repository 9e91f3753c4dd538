package cf_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/cf"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]cf.Target{
		"shop":            {App: "shop"},
		"my shop.v2":      {App: "my shop.v2"},
		"7":               {App: "7"},
		"shop/worker":     {App: "shop", Process: "worker"},
		"shop/0":          {App: "shop", Indexes: []int{0}},
		"shop/0,2-4":      {App: "shop", Indexes: []int{0, 2, 3, 4}},
		"shop/web/4,0,4":  {App: "shop", Process: "web", Indexes: []int{0, 4}},
		"shop/w-1/10":     {App: "shop", Process: "w-1", Indexes: []int{10}},
		"laden/süß/0":     {App: "laden", Process: "süß", Indexes: []int{0}},
		"shop/worker/3-3": {App: "shop", Process: "worker", Indexes: []int{3}},
	} {
		got, err := cf.ParseTarget(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/", "shop/", "/web", "shop//0", "shop/web/0/1", "shop/web/x", "shop/1/2", "shop/2-1", "shop/1,", "shop/-1",
		"shop/1-", "shop/99999999999999999999", "shop/0-99999", "a\x1b[31m", "a\nb", "\xff", strings.Repeat("a", 2000)} {
		_, err := cf.ParseTarget(text)
		checkError(t, err, cf.KindTarget)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"shop", "shop/web", "shop/web/0,2-4", "shop/0", "shop/web/0-9999", "//", "a/-", "a/1-1-1", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := cf.ParseTarget(s)
		if err != nil {
			checkError(t, err, cf.KindTarget)
			return
		}
		if target.App == "" || strings.Contains(target.App, "/") || !strings.HasPrefix(s, target.App) {
			t.Errorf("%q: %+v", s, target)
		}
		checkIndexes(t, target.Indexes)
	})
}

func FuzzParseIndexes(f *testing.F) {
	for _, s := range []string{"0", "0,2-4", "4,0,4", "0-9999", "", ",", "-", "1-", "99999-99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := cf.ParseIndexes(s)
		if err != nil {
			checkError(t, err, cf.KindTarget)
			return
		}
		if len(all) == 0 {
			t.Errorf("%q: no index and no error", s)
		}
		checkIndexes(t, all)
	})
}

func checkIndexes(t *testing.T, all []int) {
	t.Helper()
	if len(all) > 10_000 || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("%d indexes, not in order or twice", len(all))
	}
	if len(all) > 0 && (all[0] < 0 || all[len(all)-1] > 99_999) {
		t.Errorf("out of bounds: %d, %d", all[0], all[len(all)-1])
	}
}
