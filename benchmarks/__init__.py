"""kart beside its peers on the same work: `make bench`, which writes docs/benchmarks.md."""
