package rest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/sigv4"
	"github.com/umbra-iot/umbra/internal/rest"
)

// TestWhatIsWrongWithASignature: whoever signs for another service, or for longer than a week, is told what counts.
func TestWhatIsWrongWithASignature(t *testing.T) {
	t.Parallel()
	who := func(r *http.Request) (*auth.Principal, error) { return nil, sigv4.Verifier{}.CheckTime(r) }
	guarded := rest.Guard(who, nil, http.NotFoundHandler())
	elsewhere := httptest.NewRequest(http.MethodGet, "http://umbra.example/things/lamp/shadow", http.NoBody)
	sigv4.Credentials{ID: "AKIA", Secret: "s", Region: "r", Service: "s3"}.Sign(elsewhere, nil, time.Now())
	forever := httptest.NewRequest(http.MethodGet, "http://umbra.example/things/lamp/shadow?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0&X-Amz-Expires=604801", http.NoBody)
	for want, r := range map[string]*http.Request{"iotdata": elsewhere, "604800": forever} {
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: answer %d %s; want 403 with %s", r.URL, w.Code, w.Body, want)
		}
	}
}
