/* A disk that fails, for a process that is started with this in LD_PRELOAD.

   FAULTY_DISK_BELOW    a folder: only files in it fail
   FAULTY_DISK_ORDERS   a file with the orders of the test, read at each call that may fail; while it is not there
                        nothing fails:  <serial> <kinds> <number> <error> <how often>
                            serial     another one for each order: the count begins anew
                            kinds      w (write), s (sync) or ws
                            number     the how-manyeth call of these kinds fails, from 1
                            error      EIO, ENOSPC, or SHORT: a write of a part (a sync is then left alone)
                            how often  once or ever
   FAULTY_DISK_TOLD     a file that gets a line for each call that failed: its name, the error and the path */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char orders[128], kinds[8], often[8], error_name[16];
static long number, counted;

enum { LET, FAIL, SHORTEN };

static int is_below(int fd, char *path, size_t size) {
    const char *folder = getenv("FAULTY_DISK_BELOW");
    char link[64];
    if (!folder)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t prefix = strlen(folder);
    return strncmp(path, folder, prefix) == 0 && (path[prefix] == '/' || path[prefix] == 0);
}

/* Read the orders; whether there are any. */
static int ordered(void) {
    const char *name = getenv("FAULTY_DISK_ORDERS");
    char text[sizeof orders];
    int fd = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    if (strcmp(text, orders) != 0) {
        strcpy(orders, text);
        counted = 0;
        if (sscanf(text, "%*s %7s %ld %15s %7s", kinds, &number, error_name, often) != 4)
            number = 0;
    }
    return number > 0;
}

static void tell(const char *call, const char *path) {
    const char *name = getenv("FAULTY_DISK_TOLD");
    char line[PATH_MAX + 64];
    if (!name)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    int length = snprintf(line, sizeof line, "%s %s %s\n", call, error_name, path);
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

/* What becomes of a call; errno is set where it fails. */
static int judge(int fd, char kind, const char *call, size_t size) {
    char path[PATH_MAX];
    int verdict = LET, kept = errno;
    if (!is_below(fd, path, sizeof path))
        return LET;
    pthread_mutex_lock(&lock);
    if (ordered() && strchr(kinds, kind)) {
        counted++;
        if (counted == number || (counted > number && strcmp(often, "ever") == 0)) {
            int is_short = strcmp(error_name, "SHORT") == 0;
            if (!is_short || (kind == 'w' && size > 1)) {
                verdict = is_short ? SHORTEN : FAIL;
                tell(call, path);
            }
        }
    }
    pthread_mutex_unlock(&lock);
    errno = verdict == FAIL ? (strcmp(error_name, "ENOSPC") == 0 ? ENOSPC : EIO) : kept;
    return verdict;
}

#define FIND(name)                                                                                                 \
    if (!real)                                                                                                     \
    real = (__typeof__(real))(uintptr_t)dlsym(RTLD_NEXT, name)

#define WRITES(name, arguments, pass, pass_short)                                                                  \
    ssize_t name arguments {                                                                                       \
        static ssize_t(*real) arguments;                                                                           \
        FIND(#name);                                                                                               \
        switch (judge(fd, 'w', #name, size)) {                                                                     \
        case FAIL:                                                                                                 \
            return -1;                                                                                             \
        case SHORTEN:                                                                                              \
            return real pass_short;                                                                                \
        default:                                                                                                   \
            return real pass;                                                                                      \
        }                                                                                                          \
    }

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), (fd, data, size / 2, at))
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), (fd, data, size / 2, at))

#define SYNCS(name)                                                                                                \
    int name(int fd) {                                                                                             \
        static int (*real)(int);                                                                                   \
        FIND(#name);                                                                                               \
        return judge(fd, 's', #name, 0) == FAIL ? -1 : real(fd);                                                   \
    }

SYNCS(fsync)
SYNCS(fdatasync)
SYNCS(syncfs)
