/* attnd: reads the configuration, starts the daemon, waits for a signal, stops it. */
#include "cache/policy.h"
#include "daemon/daemon.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char usage[] =
    "usage: attnd [--config FILE] [--check-config] [--help-config] [--print-config] [--version] [--help]\n"
    "\n"
    "Holds compressed key-value caches and answers attention queries over ZeroMQ until SIGTERM or SIGINT.\n"
    "SIGHUP makes it read its configuration again (see attn reload).\n"
    "Without --config it runs on its built-in default, which --print-config shows.\n"
    "\n"
    "  --config FILE    read this YAML file\n"
    "  --check-config   read the configuration, say what is wrong with it, and leave: 0 when nothing is\n"
    "  --help-config    every key with its default, bounds, unit and meaning\n"
    "  --print-config   the built-in default as YAML\n"
    "  --version        the version\n";

static void report(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "%s\n", message);
}

static void print_line(void *context, const char *text)
{
    (void)context;
    puts(text);
}

/* Signals are blocked before any thread starts, so that only this wait sees them. */
static int wait_for_signal(const sigset_t *set)
{
    int signal_number = 0;
    while (sigwait(set, &signal_number) != 0)
        ;
    return signal_number;
}

/* A connection takes a descriptor, so as many as may be had: the soft limit is mostly meant for programs that use select(). */
static void raise_descriptors(struct log *log)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        getrlimit(RLIMIT_NOFILE, &limit);
    log_event(log, LOG_INFO, "descriptors", LOG_COUNT("limit", (uint64_t)limit.rlim_cur));
}

static int run(const struct config *config)
{
    struct fault fault = {0};
    struct daemon *daemon = NULL;
    struct log log;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    log_init(&log, STDERR_FILENO, (enum log_level)log_level_from_name(config->log_level), LOG_PER_SECOND);
    raise_descriptors(&log);
    if (daemon_start(&daemon, config, NULL, &log, &fault)) {
        fprintf(stderr, "attnd: %s: %s (%s)\n", err_sentence(fault.err), fault.text, err_advice(fault.err));
        return 1;
    }
    printf("attnd %s ready at %s\n", ATTND_VERSION, daemon_endpoint(daemon));
    fflush(stdout);
    int signal_number;
    while ((signal_number = wait_for_signal(&set)) == SIGHUP)
        daemon_reload(daemon);
    log_event(&log, LOG_INFO, "signal", LOG_TEXT("name", strsignal(signal_number)));
    daemon_stop(daemon);
    log_finish(&log);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"help-config", no_argument, NULL, 'K'},
        {"print-config", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    bool check = false;
    size_t bytes;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'c': path = optarg; break;
        case 'k': check = true; break;
        case 'K': config_print_keys(print_line, NULL); return 0;
        case 'p': {
            const char *text = config_builtin_yaml(&bytes);
            fwrite(text, 1, bytes, stdout);
            return 0;
        }
        case 'v': puts("attnd " ATTND_VERSION); return 0;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return 2;
        }
    if (optind < argc) {
        fprintf(stderr, "attnd: unexpected argument '%s'\n%s", argv[optind], usage);
        return 2;
    }
    struct config *config = NULL;
    if (config_load(&config, path, policy_check_rule, report, NULL))
        return 1;
    int status = check ? 0 : run(config);
    if (check)
        printf("%s: no errors\n", path ? path : "built-in configuration");
    config_destroy(config);
    return status;
}
