/* Makes the n-th call of some kind below one folder fail, once. Preloaded (LD_PRELOAD) by
 * tests/badday/syscalls.py, which arms it after a fork:
 *     shim_arm(kind, errno, n, folder);  ...  shim_count()
 * Only calls on paths or descriptors below the folder count, so imports are left alone.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char kind[32], root[PATH_MAX];
static int error;
static long fail_at, calls;

void shim_arm(const char *what, int number, long n, const char *folder) {
    snprintf(kind, sizeof kind, "%s", what);
    snprintf(root, sizeof root, "%s", folder);
    error = number;
    fail_at = n;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
}

long shim_count(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

static int below(const char *path) { return root[0] && !strncmp(path, root, strlen(root)); }

static int fd_below(int fd) {
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return below(target);
}

static int at_below(int dirfd, const char *path) {
    return path[0] == '/' || dirfd == AT_FDCWD ? below(path) : fd_below(dirfd);
}

/* Whether this call is the one to fail; `here` says whether it is below the folder. */
static int fails(const char *what, int here) {
    if (!fail_at || strcmp(kind, what) || !here) return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != fail_at) return 0;
    errno = error;
    return 1;
}

#define WRAP(type, name, what, here, parameters, arguments)                     \
    type name parameters {                                                     \
        int saved = errno;                                                     \
        if (fails(what, kind[0] && !strcmp(kind, what) && (here))) return -1;  \
        errno = saved;                                                         \
        static type (*real) parameters;                                        \
        if (!real) real = dlsym(RTLD_NEXT, #name);                             \
        return real arguments;                                                 \
    }

WRAP(ssize_t, write, "write", fd_below(fd), (int fd, const void *b, size_t n), (fd, b, n))
WRAP(ssize_t, pwrite, "write", fd_below(fd), (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRAP(ssize_t, pwrite64, "write", fd_below(fd), (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
WRAP(ssize_t, read, "read", fd_below(fd), (int fd, void *b, size_t n), (fd, b, n))
WRAP(ssize_t, pread64, "read", fd_below(fd), (int fd, void *b, size_t n, off64_t o), (fd, b, n, o))
WRAP(int, fsync, "fsync", fd_below(fd), (int fd), (fd))
WRAP(int, fdatasync, "fsync", fd_below(fd), (int fd), (fd))
WRAP(int, ftruncate, "ftruncate", fd_below(fd), (int fd, off_t n), (fd, n))
WRAP(int, ftruncate64, "ftruncate", fd_below(fd), (int fd, off64_t n), (fd, n))
WRAP(int, fchmod, "chmod", fd_below(fd), (int fd, mode_t m), (fd, m))
WRAP(int, chmod, "chmod", below(p), (const char *p, mode_t m), (p, m))
WRAP(int, fchmodat, "chmod", at_below(d, p), (int d, const char *p, mode_t m, int f), (d, p, m, f))
WRAP(int, rename, "rename", below(p), (const char *p, const char *q), (p, q))
WRAP(int, renameat, "rename", at_below(d, p), (int d, const char *p, int e, const char *q), (d, p, e, q))
WRAP(int, renameat2, "rename", at_below(d, p),
     (int d, const char *p, int e, const char *q, unsigned f), (d, p, e, q, f))
WRAP(int, link, "link", below(p), (const char *p, const char *q), (p, q))
WRAP(int, linkat, "link", at_below(d, p), (int d, const char *p, int e, const char *q, int f),
     (d, p, e, q, f))
WRAP(int, unlink, "unlink", below(p), (const char *p), (p))
WRAP(int, unlinkat, "unlink", at_below(d, p), (int d, const char *p, int f), (d, p, f))
WRAP(int, rmdir, "rmdir", below(p), (const char *p), (p))
WRAP(int, mkdir, "mkdir", below(p), (const char *p, mode_t m), (p, m))
WRAP(int, mkdirat, "mkdir", at_below(d, p), (int d, const char *p, mode_t m), (d, p, m))
WRAP(int, stat, "stat", below(p), (const char *p, struct stat *s), (p, s))
WRAP(int, lstat, "stat", below(p), (const char *p, struct stat *s), (p, s))
WRAP(int, stat64, "stat", below(p), (const char *p, struct stat64 *s), (p, s))
WRAP(int, lstat64, "stat", below(p), (const char *p, struct stat64 *s), (p, s))
WRAP(int, fstatat, "stat", at_below(d, p), (int d, const char *p, struct stat *s, int f), (d, p, s, f))
WRAP(int, fstatat64, "stat", at_below(d, p), (int d, const char *p, struct stat64 *s, int f),
     (d, p, s, f))

#define MODE(flags, mode)                                                       \
    mode_t mode = 0;                                                           \
    if (flags & (O_CREAT | O_TMPFILE)) {                                       \
        va_list list;                                                          \
        va_start(list, flags);                                                 \
        mode = va_arg(list, mode_t);                                           \
        va_end(list);                                                          \
    }

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                               \
        MODE(flags, mode)                                                      \
        if (fails("open", below(path))) return -1;                             \
        static int (*real)(const char *, int, ...);                            \
        if (!real) real = dlsym(RTLD_NEXT, #name);                             \
        return real(path, flags, mode);                                        \
    }

#define OPENAT(name)                                                            \
    int name(int dirfd, const char *path, int flags, ...) {                    \
        MODE(flags, mode)                                                      \
        if (fails("open", at_below(dirfd, path))) return -1;                   \
        static int (*real)(int, const char *, int, ...);                       \
        if (!real) real = dlsym(RTLD_NEXT, #name);                             \
        return real(dirfd, path, flags, mode);                                 \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

DIR *opendir(const char *path) {
    if (fails("opendir", below(path))) return NULL;
    static DIR *(*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    return real(path);
}
