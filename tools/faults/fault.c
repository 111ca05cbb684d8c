// LD_PRELOAD: once armed, the n-th call that writes below a directory fails with an error of the operating system.
// Calls that make files or folders, write, allocate, truncate, synchronise and rename count; those on *.pyc do not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls, failing;
static int error;
static char root[PATH_MAX];

// Count from now on; the call of this number fails, none if it is 0.
void fault_arm(const char *directory, long number, int code) {
    snprintf(root, sizeof root, "%s/", directory);
    calls = 0, failing = number, error = code;
}

long fault_calls(void) {
    root[0] = 0;
    return calls;
}

static int fails(const char *path) {
    if (!root[0] || strncmp(path, root, strlen(root)) || strstr(path, ".pyc")) return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) != failing) return 0;
    errno = error;
    return 1;
}

static int fails_at(int directory, const char *path) {
    char whole[2 * PATH_MAX];
    if (!root[0] || path[0] == '/' || directory != AT_FDCWD) return fails(path);
    if (!getcwd(whole, PATH_MAX)) return 0;
    strcat(whole, "/");
    strncat(whole, path, PATH_MAX - 1);
    return fails(whole);
}

static int fails_open(int file) {
    char link[64], path[PATH_MAX];
    int before = errno;
    if (!root[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0) return 0;
    path[size] = 0;
    return fails(path);
}

#define REAL(name, type, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)
#define OF_FILE(type, name, parameters, arguments, ...) \
    type name parameters { REAL(name, type, __VA_ARGS__); return fails_open(file) ? -1 : real arguments; }

OF_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size), int, const void *, size_t)
OF_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), int, const void *, size_t, off_t)
OF_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), int, const void *, size_t, off64_t)
OF_FILE(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count), int, const struct iovec *, int)
OF_FILE(int, fsync, (int file), (file), int)
OF_FILE(int, ftruncate, (int file, off_t size), (file, size), int, off_t)
OF_FILE(int, ftruncate64, (int file, off64_t size), (file, size), int, off64_t)

int posix_fallocate(int file, off_t at, off_t size) {
    REAL(posix_fallocate, int, int, off_t, off_t);
    return fails_open(file) ? error : real(file, at, size);
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    REAL(posix_fallocate64, int, int, off64_t, off64_t);
    return fails_open(file) ? error : real(file, at, size);
}
int rename(const char *from, const char *to) {
    REAL(rename, int, const char *, const char *);
    return fails_at(AT_FDCWD, to) ? -1 : real(from, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir, int, const char *, mode_t);
    return fails_at(AT_FDCWD, path) ? -1 : real(path, mode);
}

#define OPENS(name, ...) { \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest)
int open(const char *path, int flags, ...) OPENS(open);
    REAL(open, int, const char *, int, ...);
    return flags & O_CREAT && fails_at(AT_FDCWD, path) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) OPENS(open64);
    REAL(open64, int, const char *, int, ...);
    return flags & O_CREAT && fails_at(AT_FDCWD, path) ? -1 : real(path, flags, mode);
}
int openat(int directory, const char *path, int flags, ...) OPENS(openat);
    REAL(openat, int, int, const char *, int, ...);
    return flags & O_CREAT && fails_at(directory, path) ? -1 : real(directory, path, flags, mode);
}
