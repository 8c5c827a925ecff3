/* attn bench's own subcommands. */
#ifndef ATTND_TOOLS_BENCH_BENCH_H
#define ATTND_TOOLS_BENCH_BENCH_H

int bench_kernels(int argc, char **argv);
int bench_plot(int argc, char **argv);
int bench_pipeline(int argc, char **argv);
int bench_crowd(int argc, char **argv);
int bench_soak(int argc, char **argv);
int bench_policies(int argc, char **argv);
int bench_echo(int argc, char **argv); /* the other end of bench_pipeline's echo, in a process of its own */

#endif
