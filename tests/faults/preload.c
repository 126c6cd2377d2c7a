/* Between a program and its files and clock: records what is done to the files below a folder, lets calls fail, and
 * shifts the time of day. Preloaded into daemons by `preload.py`, which maps the same control block. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, RENAME = 16, UNLINK = 32, MKDIR = 64 };
enum { FILES = 65536, PATH = 512 };

/* Laid out as `preload.py` reads and writes it. */
struct control {
    char prefix[PATH];       /* only files below */
    int32_t trace;           /* whether calls are recorded */
    int32_t kinds;           /* which calls may fail, 0: none */
    int32_t error;           /* with which errno */
    int32_t countdown;       /* the how many-th of them fails */
    int32_t sticky;          /* whether those after it fail, too */
    int32_t pid;             /* of which process, 0: any */
    int32_t failed;          /* how many have failed */
    int32_t seen;            /* how many there were that might have */
    int32_t anew;            /* the countdown begins here again with each commit, 0: it does not */
    int32_t reserved;
    int64_t offset;          /* nanoseconds by which the time of day is wrong */
};

struct record {
    uint32_t kind, path, other, created;
    uint64_t offset, size, began, ended;
};

static struct control *control;
static int trace = -1;
static char *paths[FILES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now(void) {
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    if (!path || control)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    void *block = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (block != MAP_FAILED)
        control = block;
    path = getenv("FAULTS_TRACE");
    if (path)
        trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* Whether a file is one that matters: not what is mapped, nor workers' notes of their progress. */
static int matters(const char *path) {
    if (!control || !path || !control->prefix[0] || strncmp(path, control->prefix, strlen(control->prefix)))
        return 0;
    size_t n = strlen(path);
    return n < PATH && !(n > 4 && !strcmp(path + n - 4, "-shm")) && !strstr(path, "/progress/");
}

static const char *path_of(int fd) { return fd >= 0 && fd < FILES ? paths[fd] : NULL; }

static int fails(int kind, const char *path) {
    if (!control || !(control->kinds & kind) || !matters(path) || (control->pid && control->pid != getpid()))
        return 0;
    __sync_fetch_and_add(&control->seen, 1);
    int left = __sync_sub_and_fetch(&control->countdown, 1);
    if (left && !(left < 0 && control->sticky))
        return 0;
    __sync_fetch_and_add(&control->failed, 1);
    errno = control->error;
    return 1;
}

/* SQLite's log is synced: a commit has ended, and the calls of the next are counted from one. */
static void count_anew(const char *path) {
    size_t n = strlen(path);
    if (control && control->anew && !control->failed && control->pid == getpid() && n > 4 &&
        !strcmp(path + n - 4, "-wal"))
        control->countdown = control->anew;
}

static void note(int kind, const char *path, const char *other, int created, uint64_t offset, const void *data,
                 uint64_t size, uint64_t began) {
    if (trace < 0 || !control || !control->trace)
        return;
    int saved = errno;
    struct record record = {kind, strlen(path), other ? strlen(other) : 0, created, offset, size, began, now()};
    struct iovec parts[4] = {
        {&record, sizeof record},
        {(void *)path, record.path},
        {(void *)other, record.other},
        {(void *)data, data ? size : 0},
    };
    syscall(SYS_writev, trace, parts, 4);
    errno = saved;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int opened(int fd, const char *path, int flags, int existed, uint64_t began) {
    if (fd >= 0 && fd < FILES) {
        free(paths[fd]);
        paths[fd] = strdup(path);
        if ((flags & O_CREAT && !existed) || flags & O_TRUNC)
            note(OPEN, path, NULL, !existed, 0, NULL, 0, began);
    }
    return fd;
}

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        if (!matters(path)) { \
            int fd = real(path, flags, mode); \
            if (fd >= 0 && fd < FILES && paths[fd]) { free(paths[fd]); paths[fd] = NULL; } \
            return fd; \
        } \
        if (fails(OPEN, path)) \
            return -1; \
        pthread_mutex_lock(&mutex); \
        uint64_t began = now(); \
        int existed = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK); \
        int fd = opened(real(path, flags, mode), path, flags, existed, began); \
        pthread_mutex_unlock(&mutex); \
        return fd; \
    }
OPENING(open)
OPENING(open64)

int close(int fd) {
    REAL(close);
    if (path_of(fd)) {
        free(paths[fd]);
        paths[fd] = NULL;
    }
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    const char *path = path_of(fd);
    if (!path)
        return real(fd, data, size);
    if (fails(WRITE, path))
        return -1;
    pthread_mutex_lock(&mutex);
    uint64_t began = now();
    off_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, size);
    if (done > 0)
        note(WRITE, path, NULL, 0, at, data, done, began);
    pthread_mutex_unlock(&mutex);
    return done;
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *data, size_t size, offset_t offset) { \
        REAL(name); \
        const char *path = path_of(fd); \
        if (!path) \
            return real(fd, data, size, offset); \
        if (fails(WRITE, path)) \
            return -1; \
        pthread_mutex_lock(&mutex); \
        uint64_t began = now(); \
        ssize_t done = real(fd, data, size, offset); \
        if (done > 0) \
            note(WRITE, path, NULL, 0, offset, data, done, began); \
        pthread_mutex_unlock(&mutex); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNCING(name) \
    int name(int fd) { \
        REAL(name); \
        const char *path = path_of(fd); \
        if (!path) \
            return real(fd); \
        if (fails(SYNC, path)) \
            return -1; \
        pthread_mutex_lock(&mutex); \
        uint64_t began = now(); \
        int failed = real(fd); \
        if (!failed) { \
            note(SYNC, path, NULL, 0, 0, NULL, 0, began); \
            count_anew(path); \
        } \
        pthread_mutex_unlock(&mutex); \
        return failed; \
    }
SYNCING(fsync)
SYNCING(fdatasync)

#define TRUNCATING(name, offset_t) \
    int name(int fd, offset_t size) { \
        REAL(name); \
        const char *path = path_of(fd); \
        if (!path) \
            return real(fd, size); \
        if (fails(TRUNCATE, path)) \
            return -1; \
        pthread_mutex_lock(&mutex); \
        uint64_t began = now(); \
        int failed = real(fd, size); \
        if (!failed) \
            note(TRUNCATE, path, NULL, 0, 0, NULL, size, began); \
        pthread_mutex_unlock(&mutex); \
        return failed; \
    }
TRUNCATING(ftruncate, off_t)
TRUNCATING(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!matters(from))
        return real(from, to);
    if (fails(RENAME, from))
        return -1;
    pthread_mutex_lock(&mutex);
    uint64_t began = now();
    int failed = real(from, to);
    if (!failed)
        note(RENAME, from, to, 0, 0, NULL, 0, began);
    pthread_mutex_unlock(&mutex);
    return failed;
}

int unlink(const char *path) {
    REAL(unlink);
    if (!matters(path))
        return real(path);
    if (fails(UNLINK, path))
        return -1;
    pthread_mutex_lock(&mutex);
    uint64_t began = now();
    int failed = real(path);
    if (!failed)
        note(UNLINK, path, NULL, 0, 0, NULL, 0, began);
    pthread_mutex_unlock(&mutex);
    return failed;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!matters(path))
        return real(path, mode);
    pthread_mutex_lock(&mutex);
    uint64_t began = now();
    int failed = real(path, mode);
    if (!failed)
        note(MKDIR, path, NULL, 0, 0, NULL, 0, began);
    pthread_mutex_unlock(&mutex);
    return failed;
}

/* -- the time of day ---------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && control && control->offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t shifted = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + control->offset;
        time->tv_sec = shifted / 1000000000;
        time->tv_nsec = shifted % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    time->tv_sec = precise.tv_sec;
    time->tv_usec = precise.tv_nsec / 1000;
    (void)zone;
    return 0;
}

time_t time(time_t *to) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (to)
        *to = precise.tv_sec;
    return precise.tv_sec;
}
