package main

import (
	"testing"

	"example.com/double"
)

func TestDouble(t *testing.T) {
	if double.Of(21) != 42 {
		t.Fatal("not doubled")
	}
}
