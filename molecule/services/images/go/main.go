// Stock on net/http: a page, a late one, and an order.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

func index(response http.ResponseWriter, request *http.Request) {
	io.Copy(io.Discard, request.Body)
	host, _ := os.Hostname()
	response.Header().Set("Content-Type", "application/json")
	json.NewEncoder(response).Encode(map[string]string{
		"host": host, "version": os.Getenv("APP_VERSION"), "mode": os.Getenv("MODE"),
	})
}

func wait(response http.ResponseWriter, request *http.Request) {
	seconds, err := strconv.ParseFloat(request.PathValue("seconds"), 64)
	if err != nil {
		http.Error(response, "no number", http.StatusBadRequest)
		return
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	index(response, request)
}

func main() {
	http.HandleFunc("/stock", index)
	http.HandleFunc("/stock/wait/{seconds}", wait)
	log.Fatal(http.ListenAndServe(":8080", nil))
}
