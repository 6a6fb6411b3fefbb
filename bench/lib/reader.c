/* The reader of the benchmarks: an application that does nothing but read, so that a ratio of two runs shows the file
 * system and not an interpreter.  Prints one JSON object.
 *
 *   reader seq FILE BLOCK_BYTES      one file from open to last byte
 *   reader small LIST PROCESSES      each file of LIST (a path a line) opened, read and closed; the files are dealt out
 *                                    to PROCESSES processes, which start together
 *   reader opens LIST A_SECOND       each file of LIST opened, read and closed, A_SECOND of them; how long they took
 *   reader random FILE COUNT SEED    COUNT reads of 4 KiB at random aligned offsets; how many blocks of 1 MiB they touch
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

static char *paths[MAX_FILES];

static size_t read_list(const char *list)
{
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
    return count;
}

static int run_small(const char *list, int processes)
{
    size_t count = read_list(list);
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

static int by_size(const void *one, const void *two)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)two;
    return (a > b) - (a < b);
}

static int run_opens(const char *list, long a_second)
{
    size_t count = read_list(list);
    char *buffer = page_aligned(SMALL_BLOCK);
    int64_t *opens = calloc(count, sizeof *opens), *reads = calloc(count, sizeof *reads);
    if (!opens || !reads || count == 0 || a_second < 1)
        die("set-up");
    int64_t start = now_ns();
    for (size_t i = 0; i < count; i++) {
        int64_t due = start + (int64_t)i * 1000000000LL / a_second;
        struct timespec until = {due / 1000000000LL, due % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        int64_t before = now_ns();
        int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        opens[i] = now_ns() - before;
        if (fd < 0)
            die(paths[i]);
        ssize_t got;
        while ((got = read(fd, buffer, SMALL_BLOCK)) > 0)
            ;
        if (got < 0)
            die(paths[i]);
        reads[i] = now_ns() - before;
        close(fd);
    }
    int64_t end = now_ns();
    qsort(opens, count, sizeof *opens, by_size);
    qsort(reads, count, sizeof *reads, by_size);
    printf("{\"ns\": %lld, \"open_p99_ns\": %lld, \"read_p50_ns\": %lld, \"read_p99_ns\": %lld, \"read_max_ns\": %lld}\n",
           (long long)(end - start), (long long)opens[count * 99 / 100], (long long)reads[count / 2],
           (long long)reads[count * 99 / 100], (long long)reads[count - 1]);
    return 0;
}

static int run_random(const char *path, long count, unsigned seed)
{
    static unsigned char touched[1 << 20];
    char *buffer = page_aligned(4096);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size < 4096 || size >> 20 > (off_t)sizeof touched)
        die(path);
    long blocks = 0;
    srandom(seed);
    for (long i = 0; i < count; i++) {
        off_t offset = random() % (size / 4096) * 4096;
        if (pread(fd, buffer, 4096, offset) != 4096)
            die(path);
        blocks += !touched[offset >> 20];
        touched[offset >> 20] = 1;
    }
    close(fd);
    printf("{\"blocks\": %ld}\n", blocks);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "seq") == 0)
        return run_seq(argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "small") == 0)
        return run_small(argv[2], atoi(argv[3]));
    if (argc == 4 && strcmp(argv[1], "opens") == 0)
        return run_opens(argv[2], atol(argv[3]));
    if (argc == 5 && strcmp(argv[1], "random") == 0)
        return run_random(argv[2], atol(argv[3]), (unsigned)atol(argv[4]));
    fprintf(stderr, "usage: reader seq FILE BLOCK_BYTES | small LIST PROCESSES | opens LIST A_SECOND"
                    " | random FILE COUNT SEED\n");
    return 2;
}
