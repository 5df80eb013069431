/*
 * requests: counts the FUSE requests of a C virtiofsd that runs with `--syslog -o log_level=debug`, without the log.
 *
 * Preloaded, it takes the place of vsyslog(3). virtiofsd says one message for each request, with its opcode, and one for each
 * name that is looked up; neither is formatted or written. $DRUPE_REQUESTS is a file of RECORDS x OPCODES counters of 64 bits,
 * shared with whoever reads them. A lookup of a name that begins with MARK goes on to the next record.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORDS 64
#define OPCODES 64
#define MARK ".mark-"

static uint64_t (*counters)[OPCODES];
static unsigned int record;

__attribute__((constructor)) static void open_counters(void)
{
    const char *path = getenv("DRUPE_REQUESTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 || ftruncate(fd, sizeof(uint64_t) * RECORDS * OPCODES))
        abort();
    counters = mmap(NULL, sizeof(uint64_t) * RECORDS * OPCODES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters == MAP_FAILED)
        abort();
    close(fd);
}

static void count(const char *format, va_list arguments)
{
    if (strstr(format, "unique: %llu, opcode: %s (%i)")) {
        (void)va_arg(arguments, unsigned long long);
        (void)va_arg(arguments, const char *);
        int opcode = va_arg(arguments, int);
        if (opcode >= 0 && opcode < OPCODES)
            __atomic_fetch_add(&counters[record][opcode], 1, __ATOMIC_RELAXED);
    } else if (strstr(format, "lo_lookup(parent=")) {
        (void)va_arg(arguments, uint64_t);
        if (!strncmp(va_arg(arguments, const char *), MARK, strlen(MARK)) && record + 1 < RECORDS)
            record++;
    }
}

void vsyslog(int priority, const char *format, va_list arguments)
{
    (void)priority;
    count(format, arguments);
}

/* What vsyslog is called when it was compiled with _FORTIFY_SOURCE. */
void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments)
{
    (void)priority;
    (void)flag;
    count(format, arguments);
}
