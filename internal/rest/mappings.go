package rest

import (
	"net/http"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

// orphansMax is the most orphans that one answer has.
const orphansMax = 1000

func (a *api) listMappings(w http.ResponseWriter, r *http.Request) error {
	list, err := a.Broker.Mappings(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Mappings []broker.MappingInfo `json:"mappings"`
	}{list})
	return nil
}

func (a *api) mappingErrors(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, contentJSON, a.Broker.MappingErrors())
	return nil
}

// getDevices lists the devices that a thing is made of, with the states of their commands.
func (a *api) getDevices(w http.ResponseWriter, r *http.Request) error {
	id := shadow.ID{Thing: r.PathValue("thing")}
	if err := id.Validate(); err != nil {
		return err
	}
	list, err := a.Broker.MappedDevices(r.Context(), id.Thing)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Devices []mapping.DeviceStatus `json:"devices"`
	}{list})
	return nil
}

func (a *api) listOrphans(w http.ResponseWriter, r *http.Request) error {
	limit, err := intParam(r, "limit", 1, orphansMax, orphansMax)
	if err != nil {
		return err
	}
	list, err := a.Broker.Orphans(r.Context(), limit)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, contentJSON, struct {
		Orphans []broker.Orphan `json:"orphans"`
	}{list})
	return nil
}

func (a *api) deleteOrphan(w http.ResponseWriter, r *http.Request) error {
	done, err := a.Broker.ClearOrphan(r.Context(), r.PathValue("topic"))
	if err != nil {
		return err
	}
	if !done {
		return refusal(http.StatusNotFound, "No orphan is retained on this topic")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
