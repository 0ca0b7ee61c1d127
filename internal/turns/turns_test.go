package turns_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/umbra-iot/umbra/internal/turns"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(turns.Options{Parallel: 2, Waiting: 3, Each: 2})
		var order []string
		enter := func(ctx context.Context, source string) (leave func()) {
			var end func()
			go func() {
				var err error
				if end, err = all.Take(ctx, source); err != nil {
					source += "!"
				}
				order = append(order, source)
			}()
			synctest.Wait()
			return func() {
				end()
				synctest.Wait()
			}
		}
		check := func(step, want string) {
			t.Helper()
			got := ""
			for _, s := range order {
				got += s
			}
			if order = nil; got != want {
				t.Errorf("%s: the turns are %q, want %q", step, got, want)
			}
		}
		first, second := enter(t.Context(), "a"), enter(t.Context(), "a")
		check("two at a time", "aa")
		enter(t.Context(), "a")
		check("a third one of a source", "a!")
		ctx, leave := context.WithCancel(t.Context())
		third, _, fifth := enter(t.Context(), "b"), enter(ctx, "b"), enter(t.Context(), "c")
		check("those who wait", "")
		enter(t.Context(), "d")
		check("one too many", "d!")
		leave()
		synctest.Wait()
		check("one who has waited for long enough", "b!")
		enter(t.Context(), "a")
		check("a source that has its turns still", "a!")
		first()
		second()
		check("in their order", "bc")
		third()
		fifth()
		if _, err := all.Take(t.Context(), "a"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	all := turns.New(turns.Options{Parallel: 1, Waiting: 1})
	end, err := all.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := all.Take(ctx, "b"); !errors.Is(err, why) {
		t.Errorf("who is not to wait: %v, want the cause", err)
	}
}
