#include "tools/bench/team.h"

#include "base/clock.h"

#include <math.h>
#include <omp.h>

size_t team_cpus(void)
{
    return (size_t)omp_get_num_procs();
}

int team_check(size_t n_threads, struct fault *fault)
{
    size_t given = 0;
    omp_set_dynamic(0);
#pragma omp parallel num_threads((int)n_threads)
#pragma omp master
    given = (size_t)omp_get_num_threads();
    if (given != n_threads)
        return fault_set(fault, ERR_INVALID, "OpenMP gives %zu threads, not %zu (see OMP_THREAD_LIMIT)", given, n_threads);
    return 0;
}

double team_seconds(size_t n_threads, team_run *run, void *context)
{
    double first = INFINITY, last = 0;
#pragma omp parallel num_threads((int)n_threads) reduction(min : first) reduction(max : last)
    {
#pragma omp barrier
        /* Each thread looks at the clock itself: one that the system puts aside here must not miss what the others do. */
        first = clock_seconds();
        run(context, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
        last = clock_seconds();
    }
    return last - first;
}
