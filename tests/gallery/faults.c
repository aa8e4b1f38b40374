/* Loaded before the C library: ends the process, or lets the disk be full, at the n-th change of a file.

   arm(n, mode): count from here; mode 0 never fails, 1 kills before the n-th change, 2 writes half of it and kills,
   3 answers "no space left" from the n-th on. count(): changes since then. Only files of folders named in REGARD_FAULTS
   and changes after arm() count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static volatile long changes, at;
static volatile int how = -1;

void arm(long n, int mode) { changes = 0; at = n; how = mode; }
long count(void) { return changes; }

static int ours(int file) {
    char link[64], path[4096];
    const char *folder = getenv("REGARD_FAULTS");
    if (how < 0 || !folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, folder) != NULL;
}

/* 0: do it; 1: refuse it. Half, if wanted, has been written by the caller's function. */
static int due(void) {
    long now = __sync_add_and_fetch(&changes, 1);
    if (how == 1 && now == at) kill(getpid(), SIGKILL);
    if (how == 3 && now >= at) { errno = ENOSPC; return 1; }
    return 0;
}

#define REAL(type, name) \
    static type real; \
    if (!real) real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pwriter)(int, const void *, size_t, off64_t);
typedef ssize_t (*writer)(int, const void *, size_t);
typedef int (*filer)(int);
typedef int (*cutter)(int, off64_t);

static ssize_t put(pwriter real, int file, const void *data, size_t size, off64_t place) {
    if (ours(file)) {
        if (how == 2 && changes + 1 == at) { real(file, data, size / 2, place); kill(getpid(), SIGKILL); }
        if (due()) return -1;
    }
    return real(file, data, size, place);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    REAL(pwriter, "pwrite64");
    return put(real, file, data, size, place);
}

ssize_t pwrite(int file, const void *data, size_t size, off64_t place) {
    REAL(pwriter, "pwrite64");
    return put(real, file, data, size, place);
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(writer, "write");
    if (ours(file)) {
        if (how == 2 && changes + 1 == at) { real(file, data, size / 2); kill(getpid(), SIGKILL); }
        if (due()) return -1;
    }
    return real(file, data, size);
}

int fsync(int file) {
    REAL(filer, "fsync");
    if (ours(file) && due()) return -1;
    return real(file);
}

int fdatasync(int file) {
    REAL(filer, "fdatasync");
    if (ours(file) && due()) return -1;
    return real(file);
}

int ftruncate64(int file, off64_t size) {
    REAL(cutter, "ftruncate64");
    if (ours(file) && (how != 3) && due()) return -1;
    return real(file, size);
}

int ftruncate(int file, off64_t size) { return ftruncate64(file, size); }
