/*
 * A device for an unmodified QEMU: a preloaded library that registers a handler of iterative state after RAM.
 *
 * It behaves as hw/vfio/migration.c does in the version it is loaded into, with a modelled kernel side: initial data,
 * dirty data that grows at a rate up to a cap, stop-copy data, at most one block of 1 MiB a call. device.py compiles
 * this file, sets the environment and reads the log.
 *
 * Nothing of QEMU is linked or included: Debian's binaries export their functions, which dlsym finds. The tables of
 * handlers below have the order of SaveVMHandlers in include/migration/register.h of each version.
 *
 * Environment:
 *   MIGKIT_DEVICE_QEMU  "7.2", "10.0" or "11.1"
 *   MIGKIT_DEVICES      a device is initial:stop:dirty_rate:dirty_max:load, in bytes, bytes/s and ns; devices are
 *                       separated by ";"
 *   MIGKIT_DEVICE_LOG   file to append to; no log without it
 *
 * The log has one event a line: nanoseconds of CLOCK_MONOTONIC, process, device, event, numbers. Source and destination
 * may append to one file: what is written at once ends with a line.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1u << 20)
#define DEVICES_MAX 64
#define SECTION_VERSION 1
/* Calls that find nothing come by the thousand while a migration waits; the rest is only counted. */
#define EMPTY_CALLS_LOGGED 20000

/* Records of the stream; the values are this library's own. */
#define SETUP 0x6d69676b00000001ull
#define DATA 0x6d69676b00000002ull
#define INITIAL_SENT 0x6d69676b00000003ull
#define END 0x6d69676b00000004ull

typedef struct QEMUFile QEMUFile;
typedef void Handler(void);

struct device {
    char name[16];
    int index;
    /* as configured */
    uint64_t initial_bytes, stop_bytes, dirty_max, load_ns;
    double dirty_rate;
    /* the kernel side */
    pthread_mutex_t lock;
    bool running, precopy;
    uint64_t initial, stop_left;
    double dirty;
    uint64_t dirty_at;
    /* what QEMU's side caches */
    uint64_t initial_cached, dirty_cached, total_cached;
    bool flag_sent, ack_wanted;
    /* counted */
    uint64_t calls, empty_calls, exact_calls, initial_sent, dirty_sent, loaded;
    double dirtied;
};

/* MigPendingData of 11.1. */
struct pending {
    uint64_t precopy, postcopy, stopcopy;
    uint32_t acks;
    uint64_t total;
};

/* A notifier of include/qemu/notify.h: a function and the two pointers of its list. */
struct notifier {
    void (*notify)(struct notifier *self, void *data);
    void *next, *previous;
};

static struct {
    void (*put_be64)(QEMUFile *, uint64_t);
    void (*put_buffer)(QEMUFile *, const uint8_t *, size_t);
    uint64_t (*get_be64)(QEMUFile *);
    size_t (*get_buffer)(QEMUFile *, uint8_t *, size_t);
    int (*get_error)(QEMUFile *);
    bool (*is_running)(void);
    int (*register_live)(const char *, uint32_t, int, const void *, void *);
    void *(*add_vm_change)(void (*)(void *, bool, int), void *);
    void (*add_init_done)(struct notifier *);
    /* 10.0 and later */
    bool (*switchover_ack)(void);
    int (*approve)(const char *); /* 10.0 takes no argument and ignores it */
    void (*request_ack_legacy)(const char *); /* 11.1 */
} qemu;

static struct device devices[DEVICES_MAX];
static int device_count;
static uint8_t block[BLOCK];

/* The log */

static struct {
    pthread_mutex_t lock;
    int fd;
    pid_t pid;
    size_t used;
    char text[1 << 16];
} journal = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void flush_locked(void)
{
    /* A forked child has a copy of the buffer, which is not its to write. */
    for (size_t done = 0; journal.pid == getpid() && done < journal.used;) {
        ssize_t n = write(journal.fd, journal.text + done, journal.used - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n < 0 ? 0 : n;
    }
    journal.used = 0;
}

static void flush(void)
{
    pthread_mutex_lock(&journal.lock);
    flush_locked();
    pthread_mutex_unlock(&journal.lock);
}

__attribute__((format(printf, 2, 3))) static void event(const struct device *d, const char *format, ...)
{
    char line[256];
    va_list values;
    int size;

    if (journal.fd < 0)
        return;
    size = snprintf(line, sizeof(line), "%" PRIu64 " %d %d ", now(), journal.pid, d->index);
    va_start(values, format);
    size += vsnprintf(line + size, sizeof(line) - size, format, values);
    va_end(values);
    line[size++] = '\n';
    pthread_mutex_lock(&journal.lock);
    if (journal.used + size > sizeof(journal.text))
        flush_locked();
    memcpy(journal.text + journal.used, line, size);
    journal.used += size;
    pthread_mutex_unlock(&journal.lock);
}

/* The kernel side */

static void grow(struct device *d)
{
    uint64_t t = now();
    double dirty = d->dirty;

    if (d->running && d->dirty_at) {
        dirty += d->dirty_rate * (t - d->dirty_at) * 1e-9;
        if (dirty > d->dirty_max)
            dirty = d->dirty_max;
        d->dirtied += dirty - d->dirty;
    }
    d->dirty = dirty;
    d->dirty_at = t;
}

static uint64_t read_block(struct device *d)
{
    uint64_t first, rest;

    grow(d);
    first = d->initial < BLOCK ? d->initial : BLOCK;
    rest = (uint64_t)d->dirty < BLOCK - first ? (uint64_t)d->dirty : BLOCK - first;
    d->initial -= first;
    d->dirty -= rest;
    d->initial_sent += first;
    d->dirty_sent += rest;
    return first + rest;
}

static void query_sizes(struct device *d)
{
    grow(d);
    d->initial_cached = d->precopy ? d->initial : 0;
    d->dirty_cached = d->precopy ? (uint64_t)d->dirty : 0;
    d->total_cached = d->initial + (uint64_t)d->dirty + d->stop_left;
}

static void vm_change(void *opaque, bool running, int state)
{
    struct device *d = opaque;
    (void)state;

    pthread_mutex_lock(&d->lock);
    grow(d);
    d->running = running;
    if (!running)
        d->precopy = false;
    pthread_mutex_unlock(&d->lock);
}

/* The source */

static int save_setup(QEMUFile *f, void *opaque, void **errp)
{
    struct device *d = opaque;
    (void)errp;

    pthread_mutex_lock(&d->lock);
    d->running = d->precopy = qemu.is_running();
    d->initial = d->initial_bytes;
    d->stop_left = d->stop_bytes;
    d->dirty = d->dirtied = 0;
    d->dirty_at = now();
    d->flag_sent = false;
    d->ack_wanted = d->precopy;
    d->calls = d->empty_calls = d->exact_calls = d->initial_sent = d->dirty_sent = 0;
    query_sizes(d);
    pthread_mutex_unlock(&d->lock);
    event(d, "setup %d", d->precopy);
    flush();
    qemu.put_be64(f, SETUP);
    qemu.put_be64(f, END);
    return qemu.get_error(f);
}

static bool is_active_iterate(void *opaque)
{
    struct device *d = opaque;
    return d->precopy;
}

static int put_block(QEMUFile *f, uint64_t size)
{
    if (size) {
        qemu.put_be64(f, DATA);
        qemu.put_be64(f, size);
        qemu.put_buffer(f, block, size);
    }
    return qemu.get_error(f);
}

static int save_iterate(QEMUFile *f, void *opaque)
{
    struct device *d = opaque;
    uint64_t size, from_initial;
    bool first, flag, done;
    int error;

    pthread_mutex_lock(&d->lock);
    size = read_block(d);
    if (size) {
        from_initial = size < d->initial_cached ? size : d->initial_cached;
        d->initial_cached -= from_initial;
        d->dirty_cached -= size - from_initial < d->dirty_cached ? size - from_initial : d->dirty_cached;
        d->total_cached -= size < d->total_cached ? size : d->total_cached;
    } else {
        d->initial_cached = d->dirty_cached = 0;
        d->empty_calls++;
    }
    first = !d->calls++;
    done = !d->initial_cached && !d->dirty_cached;
    flag = qemu.switchover_ack && qemu.switchover_ack() && !d->initial_cached && !d->flag_sent;
    d->flag_sent |= flag;
    pthread_mutex_unlock(&d->lock);

    error = put_block(f, size);
    if (error)
        return error;
    qemu.put_be64(f, flag ? INITIAL_SENT : END);
    if (size || d->empty_calls <= EMPTY_CALLS_LOGGED)
        event(d, "iterate %" PRIu64 " %" PRIu64 " %" PRIu64, size, d->initial_cached, d->dirty_cached);
    if (flag)
        event(d, "initial_sent");
    if (flag || first)
        flush();
    return done;
}

static int save_complete(QEMUFile *f, void *opaque)
{
    struct device *d = opaque;
    uint64_t start = now(), initial = d->initial_sent, dirty = d->dirty_sent, stop = d->stop_left, size;
    int error;

    do {
        pthread_mutex_lock(&d->lock);
        size = read_block(d);
        pthread_mutex_unlock(&d->lock);
        if ((error = put_block(f, size)))
            return error;
    } while (size);
    while (d->stop_left) {
        size = d->stop_left < BLOCK ? d->stop_left : BLOCK;
        if ((error = put_block(f, size)))
            return error;
        d->stop_left -= size;
    }
    /* Post-copy goes on asking, and 11.1 ends it only when nothing is pending; it then calls this once more. */
    pthread_mutex_lock(&d->lock);
    query_sizes(d);
    pthread_mutex_unlock(&d->lock);
    qemu.put_be64(f, END);
    event(d, "complete %" PRIu64 " %" PRIu64,
          d->initial_sent - initial + d->dirty_sent - dirty + stop, (now() - start) / 1000);
    flush();
    return qemu.get_error(f);
}

static void save_cleanup(void *opaque)
{
    struct device *d = opaque;

    pthread_mutex_lock(&d->lock);
    if (d->dirty_at) /* QEMU also cleans up where setup was never called */
        event(d, "end %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, d->calls, d->exact_calls,
              d->initial_sent, d->dirty_sent, (uint64_t)d->dirtied);
    d->precopy = false;
    d->dirty_at = 0;
    d->initial = d->initial_cached = d->dirty_cached = 0;
    d->dirty = 0;
    pthread_mutex_unlock(&d->lock);
    flush();
}

/* 7.2: one query, always up to date, and one number. */
static void save_live_pending(QEMUFile *f, void *opaque, uint64_t threshold, uint64_t *precopy_only,
                              uint64_t *compatible, uint64_t *postcopy_only)
{
    struct device *d = opaque;
    (void)f, (void)threshold, (void)compatible, (void)postcopy_only;

    pthread_mutex_lock(&d->lock);
    query_sizes(d);
    d->exact_calls++;
    *precopy_only += d->total_cached;
    pthread_mutex_unlock(&d->lock);
}

static void state_pending_estimate(void *opaque, uint64_t *must_precopy, uint64_t *can_postcopy)
{
    struct device *d = opaque;
    (void)can_postcopy;

    pthread_mutex_lock(&d->lock);
    if (d->precopy)
        *must_precopy += d->initial_cached + d->dirty_cached;
    pthread_mutex_unlock(&d->lock);
}

static void state_pending_exact(void *opaque, uint64_t *must_precopy, uint64_t *can_postcopy)
{
    struct device *d = opaque;
    (void)can_postcopy;

    pthread_mutex_lock(&d->lock);
    query_sizes(d);
    d->exact_calls++;
    *must_precopy += d->total_cached;
    pthread_mutex_unlock(&d->lock);
}

/* 11.1: one query for both, in which the device also asks for its acknowledgement. */
static void save_query_pending(void *opaque, struct pending *pending, bool exact, bool final)
{
    struct device *d = opaque;
    uint64_t precopy;

    pthread_mutex_lock(&d->lock);
    if (exact && !final)
        query_sizes(d);
    d->exact_calls += exact;
    precopy = d->initial_cached + d->dirty_cached;
    pending->precopy += precopy;
    pending->stopcopy += d->total_cached > precopy ? d->total_cached - precopy : 0;
    pending->acks += d->ack_wanted;
    d->ack_wanted = false;
    pthread_mutex_unlock(&d->lock);
}

/* The destination */

static int load_setup(QEMUFile *f, void *opaque, void **errp)
{
    struct device *d = opaque;
    (void)f, (void)errp;

    d->loaded = 0;
    if (qemu.request_ack_legacy)
        qemu.request_ack_legacy(d->name);
    event(d, "load_setup");
    flush();
    return 0;
}

static bool switchover_ack_needed(void *opaque)
{
    (void)opaque;
    return true;
}

static int acknowledge(struct device *d)
{
    struct timespec left = {d->load_ns / 1000000000ull, d->load_ns % 1000000000ull};
    int error;

    event(d, "initial_received %" PRIu64, d->loaded);
    /* QEMU's thread waits here as it does in a write to a device that loads its data. */
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
    error = qemu.approve ? qemu.approve(d->name) : -EINVAL;
    event(d, "ack %d", error);
    flush();
    return error;
}

static int load_state(QEMUFile *f, void *opaque, int version)
{
    struct device *d = opaque;
    static uint8_t sink[BLOCK];
    uint64_t record, size;
    int error;
    (void)version;

    for (;;) {
        record = qemu.get_be64(f);
        if ((error = qemu.get_error(f)))
            return error;
        switch (record) {
        case SETUP:
            break;
        case DATA:
            size = qemu.get_be64(f);
            if (size > BLOCK || qemu.get_buffer(f, sink, size) != size)
                return -EINVAL;
            d->loaded += size;
            break;
        case INITIAL_SENT:
            return acknowledge(d);
        case END:
            return 0;
        default:
            fprintf(stderr, "%s: the stream has no record of this device: start both QEMUs with it\n", d->name);
            return -EINVAL;
        }
    }
}

static int load_cleanup(void *opaque)
{
    struct device *d = opaque;

    if (d->loaded)
        event(d, "loaded %" PRIu64, d->loaded);
    flush();
    return 0;
}

/* Tables of handlers: the number is the place in SaveVMHandlers. */

#define PUT(f) ((Handler *)(f))

static Handler *const handlers_7_2[14] = {
    [1] = PUT(save_cleanup), [3] = PUT(save_complete), [6] = PUT(is_active_iterate), [7] = PUT(save_iterate),
    [8] = PUT(save_setup), [9] = PUT(save_live_pending), [10] = PUT(load_state), [11] = PUT(load_setup),
    [12] = PUT(load_cleanup),
};
static Handler *const handlers_10_0[20] = {
    [2] = PUT(save_setup), [3] = PUT(save_cleanup), [5] = PUT(save_complete), [9] = PUT(is_active_iterate),
    [10] = PUT(save_iterate), [11] = PUT(state_pending_estimate), [12] = PUT(state_pending_exact),
    [13] = PUT(load_state), [15] = PUT(load_setup), [16] = PUT(load_cleanup), [18] = PUT(switchover_ack_needed),
};
static Handler *const handlers_11_1[18] = {
    [2] = PUT(save_setup), [3] = PUT(save_cleanup), [4] = PUT(save_complete), [8] = PUT(is_active_iterate),
    [9] = PUT(save_query_pending), [10] = PUT(save_iterate), [12] = PUT(load_state), [14] = PUT(load_setup),
    [15] = PUT(load_cleanup),
};

/* A function that only this version and its neighbours have, and one that this version does not have yet or any more. */
static const struct version {
    const char *name;
    Handler *const *handlers;
    const char *has, *lacks;
} versions[] = {
    {"7.2", handlers_7_2, "qemu_savevm_state_pending", "qemu_loadvm_approve_switchover"},
    {"10.0", handlers_10_0, "migrate_send_switchover_start", "qemu_savevm_state_postcopy_prepare"},
    {"11.1", handlers_11_1, "qemu_savevm_query_pending_iter", "qemu_savevm_state_pending_exact"},
};
static const struct version *version;

static void register_devices(struct notifier *self, void *data)
{
    struct timespec wall;
    uint64_t mono = now();
    (void)self, (void)data;

    journal.pid = getpid(); /* another one where QEMU runs as a daemon */
    clock_gettime(CLOCK_REALTIME, &wall);
    for (int i = 0; i < device_count; i++) {
        struct device *d = &devices[i];
        qemu.register_live(d->name, 0, SECTION_VERSION, version->handlers, d);
        qemu.add_vm_change(vm_change, d);
        event(d, "registered %s %" PRIu64 " %" PRIu64 " %.0f %" PRIu64 " %" PRIu64 " %" PRId64, version->name,
              d->initial_bytes, d->stop_bytes, d->dirty_rate, d->dirty_max, d->load_ns,
              (int64_t)(wall.tv_sec * 1000000000ll + wall.tv_nsec) - (int64_t)mono);
    }
    flush();
}

static struct notifier init_done = {.notify = register_devices};

__attribute__((noreturn, format(printf, 1, 2))) static void refuse(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    _exit(1);
}

static void read_devices(const char *text)
{
    while (*text) {
        struct device *d = &devices[device_count];
        int read = 0;

        if (device_count == DEVICES_MAX)
            refuse("MIGKIT_DEVICES has more than %d devices", DEVICES_MAX);
        if (sscanf(text, "%" SCNu64 ":%" SCNu64 ":%lf:%" SCNu64 ":%" SCNu64 "%n", &d->initial_bytes, &d->stop_bytes,
                   &d->dirty_rate, &d->dirty_max, &d->load_ns, &read) != 5 || (text[read] && text[read] != ';'))
            refuse("MIGKIT_DEVICES has \"%s\", which is not initial:stop:dirty_rate:dirty_max:load", text);
        d->index = device_count++;
        snprintf(d->name, sizeof(d->name), "migtest%d", d->index);
        pthread_mutex_init(&d->lock, NULL);
        text += read + (text[read] == ';');
    }
}

__attribute__((constructor)) static void load(void)
{
    const char *wanted = getenv("MIGKIT_DEVICE_QEMU"), *text = getenv("MIGKIT_DEVICES"),
               *path = getenv("MIGKIT_DEVICE_LOG");

    /* The environment reaches every program that QEMU is started through or starts. */
    qemu.register_live = dlsym(RTLD_DEFAULT, "register_savevm_live");
    if (!qemu.register_live || !wanted || !text)
        return;

    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        if (!strcmp(wanted, versions[i].name))
            version = &versions[i];
    if (!version || !dlsym(RTLD_DEFAULT, version->has) || dlsym(RTLD_DEFAULT, version->lacks))
        refuse("MIGKIT_DEVICE_QEMU = \"%s\" is not the version of this QEMU: its functions are those of another", wanted);
    struct {
        void *where;
        const char *name;
        bool needed;
    } const functions[] = {
        {&qemu.put_be64, "qemu_put_be64", true},
        {&qemu.put_buffer, "qemu_put_buffer", true},
        {&qemu.get_be64, "qemu_get_be64", true},
        {&qemu.get_buffer, "qemu_get_buffer", true},
        {&qemu.get_error, "qemu_file_get_error", true},
        {&qemu.is_running, "runstate_is_running", true},
        {&qemu.add_vm_change, "qemu_add_vm_change_state_handler", true},
        {&qemu.add_init_done, "qemu_add_machine_init_done_notifier", true},
        {&qemu.switchover_ack, "migrate_switchover_ack", version > versions},
        {&qemu.approve, "qemu_loadvm_approve_switchover", version > versions},
        {&qemu.request_ack_legacy, "migration_request_switchover_ack_legacy", version > versions + 1},
    };
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *found = dlsym(RTLD_DEFAULT, functions[i].name);
        if (!found && functions[i].needed)
            refuse("this QEMU does not export %s, which the device needs", functions[i].name);
        memcpy(functions[i].where, &found, sizeof(found));
    }
    read_devices(text);
    memset(block, 0x5a, sizeof(block)); /* not zero: a compressing channel must not gain by it */
    if (path && *path && (journal.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) < 0)
        refuse("MIGKIT_DEVICE_LOG = \"%s\" cannot be opened: %s", path, strerror(errno));
    journal.pid = getpid();
    /* Called when the machine is complete, so after RAM has registered and before anything arrives. */
    qemu.add_init_done(&init_done);
}

__attribute__((destructor)) static void unload(void)
{
    if (journal.fd >= 0)
        flush();
}
