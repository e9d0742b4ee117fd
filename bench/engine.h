/* engine: `tandem-bench engine`, the engine alone beside what the machine could do. */
#ifndef TANDEM_BENCH_ENGINE_H
#define TANDEM_BENCH_ENGINE_H

/* argv[0] is the word "engine". Returns EXIT_* (daemon.h). */
int engine_bench_main(int argc, char **argv);

#endif
