/* Faults of disks and sockets, on demand, in a real process: loaded before the C library (LD_PRELOAD).

   What is to go wrong is in a file that both sides map (FAULTS_CONTROL); `faults.py` writes it. Calls on
   the file of which the path ends as asked, or on sockets, fail, tear, or end the process.

   With FAULTS_CLOCK, the clock is off by so many seconds. With FAULTS_SYNCED, a copy of the access log's files as they were when they were last synced is kept
   there: what is left of them when the power goes. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, SEND = 4, RENAME = 8 };
enum { FAIL = 1, KILL_BEFORE = 2, KILL_TORN = 3, KILL_AFTER = 4 };

struct control {
    volatile int32_t calls;  /* which of them; 0: none */
    volatile int32_t action;
    volatile int32_t error;
    volatile int32_t skip;   /* so many of them go well first */
    volatile int32_t hits;   /* how many have gone wrong */
    volatile int32_t process; /* in this one alone; 0: in any */
    char ending[104];        /* of the path; `*…`: what is anywhere in it */
};

static struct control *control;
static const char *synced;
static long off;
static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;
static __thread int ours; /* whether the calls of this thread are our own */

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        control = at == MAP_FAILED ? NULL : at;
        close(fd);
    }
    synced = getenv("FAULTS_SYNCED");
    const char *seconds = getenv("FAULTS_CLOCK");
    off = seconds ? atol(seconds) : 0;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int ends(const char *path)
{
    if (control->ending[0] == '*') return strstr(path, control->ending + 1) != NULL;
    size_t all = strlen(path), end = strlen(control->ending);
    return all >= end && strcmp(path + all - end, control->ending) == 0;
}

static int name_of(int fd, char *path, size_t size)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    char *gone = strstr(path, " (deleted)");
    if (gone) *gone = 0;
    return 1;
}

/* What is to become of a call on `path`, or else on `fd`: an action, or 0. */
static int due(int call, int fd, const char *path)
{
    if (ours || !control || !(control->calls & call)) return 0;
    if (control->process && control->process != getpid()) return 0;
    int saved = errno;
    char name[4096];
    int mine = call == SEND || (path ? ends(path) : name_of(fd, name, sizeof name) && ends(name));
    errno = saved;
    if (!mine) return 0;
    if (__atomic_fetch_sub(&control->skip, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    __atomic_fetch_add(&control->hits, 1, __ATOMIC_SEQ_CST);
    return control->action;
}

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define MEET(call, fd, path) int action = due(call, fd, path); \
    if (action == KILL_BEFORE) die(); \
    if (action == FAIL) { errno = control->error; return -1; }
#define LEAVE if (action == KILL_AFTER) die();

static int is_socket(int fd)
{
    struct stat found;
    return control && (control->calls & SEND) && fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    MEET(WRITE, fd, NULL)
    if (action == KILL_TORN) { real(fd, data, size / 2, at); die(); }
    ssize_t done = real(fd, data, size, at);
    LEAVE
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    MEET(is_socket(fd) ? SEND : WRITE, fd, NULL)
    if (action == KILL_TORN) { real(fd, data, size / 2); die(); }
    ssize_t done = real(fd, data, size);
    LEAVE
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    MEET(is_socket(fd) ? SEND : WRITE, fd, NULL)
    if (action == KILL_TORN) { real(fd, parts, (count + 1) / 2); die(); }
    ssize_t done = real(fd, parts, count);
    LEAVE
    return done;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(ssize_t, "sendmsg", int, const struct msghdr *, int);
    MEET(SEND, fd, NULL)
    ssize_t done = real(fd, message, flags);
    LEAVE
    return done;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(ssize_t, "send", int, const void *, size_t, int);
    MEET(SEND, fd, NULL)
    if (action == KILL_TORN) { real(fd, data, size / 2, flags); die(); }
    ssize_t done = real(fd, data, size, flags);
    LEAVE
    return done;
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    MEET(RENAME, -1, to)
    int done = real(from, to);
    LEAVE
    return done;
}

/* Keep a copy of a file of the access log, which was just synced. */
static void keep(int fd)
{
    char name[4096], to[4200], scratch[4210], some[65536];
    if (!synced || !name_of(fd, name, sizeof name)) return;
    const char *file = strrchr(name, '/') + 1;
    if (strcmp(file, "access.db") && strcmp(file, "access.db-wal")) return;
    pthread_mutex_lock(&copying);
    ours = 1;
    snprintf(to, sizeof to, "%s/%s", synced, file);
    snprintf(scratch, sizeof scratch, "%s.new", to);
    int copy = open(scratch, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t length = 0;
    for (off_t at = 0; copy >= 0 && (length = pread(fd, some, sizeof some, at)) > 0; at += length)
        if (pwrite(copy, some, length, at) != length) abort();
    if (copy < 0 || length < 0 || close(copy) || rename(scratch, to)) abort();
    ours = 0;
    pthread_mutex_unlock(&copying);
}

static int sync_with(const char *which, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, which);
    MEET(SYNC, fd, NULL)
    int done = real(fd);
    if (done == 0) keep(fd);
    LEAVE
    return done;
}

/* A clock that is off by FAULTS_CLOCK seconds. */
int clock_gettime(clockid_t which, struct timespec *now)
{
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int done = real(which, now);
    if (done == 0 && off && which == CLOCK_REALTIME) now->tv_sec += off;
    return done;
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
