# Each target is one line; scripts/ says how. Everything that is missing gets unpacked into target/tools.
.PHONY: demo demo-fleet test lint bench bench-quick fuzz install examples audit differential steps test-debian12 sim sim-judgement help
.NOTPARALLEL:
PREFIX ?= /usr/local

demo:     ; @scripts/demo
demo-fleet: ; @scripts/demo-fleet
test:     ; @scripts/test
lint:     ; @scripts/lint
bench:    ; @scripts/bench
bench-quick: ; @scripts/bench --quick
fuzz:     ; @scripts/fuzz all
examples: ; @examples/build.sh --all
audit:    ; @scripts/audit
differential: ; @scripts/differential
steps:    ; @scripts/steps
sim:      ; @scripts/sim '$(N)' '$(FROM)'
sim-judgement: ; @scripts/sim judgement '$(N)'
test-debian12: ; @scripts/test-debian12
install:  ; @scripts/install '$(DESTDIR)$(PREFIX)'
help:     ; @sed -n 's/^| `\(make [^`]*\)` | \(.*\) |$$/\1\t\2/p' CONTRIBUTING.md
