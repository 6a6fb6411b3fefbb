/* The reader of the benchmarks: an application that does nothing but read, so that a ratio of two runs shows the file
 * system and not an interpreter.  Prints one JSON object.
 *
 *   reader seq FILE BLOCK_BYTES      one file from open to last byte
 *   reader small LIST PROCESSES      each file of LIST (a path a line) opened, read and closed; the files are dealt out
 *                                    to PROCESSES processes, which start together
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILES = 1 << 20, SMALL_BLOCK = 128 << 10 };

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t read_file(const char *path, char *buffer, size_t block, int64_t *first_ns)
{
    int64_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path);
    for (;;) {
        ssize_t got = read(fd, buffer, block);
        if (got < 0)
            die(path);
        if (total == 0 && first_ns)
            *first_ns = now_ns();
        if (got == 0)
            break;
        total += got;
    }
    close(fd);
    return total;
}

static char *page_aligned(size_t bytes)
{
    char *buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffer == MAP_FAILED)
        die("mmap");
    return buffer;
}

static int run_seq(const char *path, size_t block)
{
    char *buffer = page_aligned(block);
    int64_t first = 0, start = now_ns();
    int64_t bytes = read_file(path, buffer, block, &first);
    int64_t end = now_ns();
    printf("{\"ns\": %lld, \"first_byte_ns\": %lld, \"bytes\": %lld}\n", (long long)(end - start),
           (long long)(first - start), (long long)bytes);
    return 0;
}

static int run_small(const char *list, int processes)
{
    static char *paths[MAX_FILES];
    size_t count = 0, room = 0;
    char *line = NULL;
    ssize_t length;
    FILE *file = fopen(list, "r");
    if (!file)
        die(list);
    while (count < MAX_FILES && (length = getline(&line, &room, file)) > 0) {
        line[length - 1] = 0;
        paths[count++] = strdup(line);
    }
    fclose(file);

    int64_t *bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2], go[2];
    if (bytes == MAP_FAILED || processes < 1 || processes > 512 || pipe(ready) || pipe(go))
        die("set-up");
    for (int p = 0; p < processes; p++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            char *buffer = page_aligned(SMALL_BLOCK);
            char signal = 0;
            close(go[1]);
            if (write(ready[1], &signal, 1) != 1 || read(go[0], &signal, 1) != 0)
                _exit(1);
            for (size_t i = p; i < count; i += processes)
                bytes[p] += read_file(paths[i], buffer, SMALL_BLOCK, NULL);
            _exit(0);
        }
    }
    for (int p = 0; p < processes; p++) {
        char signal;
        if (read(ready[0], &signal, 1) != 1)
            die("a reader did not start");
    }
    int64_t start = now_ns(), total = 0;
    close(go[1]);
    int failed = 0, status;
    for (int p = 0; p < processes; p++) {
        if (wait(&status) < 0 || status != 0)
            failed = 1;
    }
    int64_t end = now_ns();
    for (int p = 0; p < processes; p++)
        total += bytes[p];
    printf("{\"ns\": %lld, \"files\": %zu, \"bytes\": %lld}\n", (long long)(end - start), count, (long long)total);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "seq") == 0)
        return run_seq(argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "small") == 0)
        return run_small(argv[2], atoi(argv[3]));
    fprintf(stderr, "usage: reader seq FILE BLOCK_BYTES | reader small LIST PROCESSES\n");
    return 2;
}
