/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/*
 * The floor: the least that any host side of the heartbeat has to do.
 *
 *     floor FOLDER GOOD HANG WARM_UP_S WINDOW_S JUDGE_S each|batch
 *
 * Connects GOOD and HANG times to the sockets of guests.c and challenges each
 * connection once a second: a wheel of 10 ms slots in which a guest keeps its
 * place, a line with a sequence and a nonce of 32 hexadecimal digits, answers
 * compared with both, lost on the third miss in a row. "each" wakes for every
 * answer that comes, as epoll loops do; "batch" sleeps through to the next
 * slot and reads then. No errors, no split lines, no limits: not the floor's.
 *
 * Prints "ready" when connected; a JSON object with its CPU when the window of
 * WINDOW_S is over; after JUDGE_S more, one with the guests that it lost: how
 * long after their deadlines.
 */

#include "bench.h"

#include <sys/random.h>

#define SLOT (SECOND / 100)
#define SLOTS 100               /* of an interval of one second */
#define MISSES 3
#define BATCH 512
#define NONCE 32

struct guest {
    int fd;
    int misses;
    int answered;
    long sequence;
    char nonce[NONCE];
};

static struct guest *guests;
static int count, poll_fd;
static long answers, lost_good, lost_hang;
static double *lateness;        /* ms, of those that hang */

static void connect_all(const char *folder, const char *name, int first,
                        int last)
{
    struct sockaddr_un address = address_of(folder, name);

    for (int i = first; i < last; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        check(fd >= 0, "socket");
        check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
              address.sun_path);
        guests[i].fd = fd;
        guests[i].answered = 1;         /* of a challenge that never was */
        watch_fd(poll_fd, fd, EPOLLIN, i);
    }
}

/* Random digits for a whole slot at a time: one system call for many. */
static const char *new_nonce(void)
{
    static const char digits[] = "0123456789abcdef";
    static unsigned char random[128 * NONCE / 2];
    static char text[NONCE];
    static size_t used = sizeof(random);

    if (used == sizeof(random)) {
        check(getrandom(random, sizeof(random), 0) == sizeof(random),
              "getrandom");
        used = 0;
    }
    for (int i = 0; i < NONCE / 2; i++, used++) {
        text[2 * i] = digits[random[used] >> 4];
        text[2 * i + 1] = digits[random[used] & 15];
    }
    return text;
}

static void challenge(struct guest *guest)
{
    char line[256];
    int size;

    guest->sequence++;
    guest->answered = 0;
    memcpy(guest->nonce, new_nonce(), NONCE);
    size = snprintf(line, sizeof(line),
                    "{\"type\":\"challenge\",\"version\":1,\"sequence\":%ld,"
                    "\"nonce\":\"%.32s\"}\n", guest->sequence, guest->nonce);
    send(guest->fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void judge(struct guest *guest, int hangs, int64_t deadline)
{
    guest->misses = guest->answered ? 0 : guest->misses + 1;
    if (guest->misses != MISSES)
        return;
    if (hangs)
        lateness[lost_hang++] = (now_ns() - deadline) / 1e6;
    else
        lost_good++;
}

/* Guests of one slot: every SLOTS-th. */
static void turn(int64_t number, int good, int64_t moment)
{
    for (int i = number % SLOTS; i < count; i += SLOTS) {
        judge(&guests[i], i >= good, moment);
        challenge(&guests[i]);
    }
}

static void hear(struct guest *guest)
{
    char line[4096], *sequence, *nonce;
    ssize_t size = recv(guest->fd, line, sizeof(line) - 1, MSG_DONTWAIT);

    if (size <= 0)
        return;
    line[size] = 0;
    sequence = strstr(line, "\"sequence\":");
    nonce = strstr(line, "\"nonce\":\"");
    if (sequence && nonce
        && atol(sequence + strlen("\"sequence\":")) == guest->sequence
        && memcmp(nonce + strlen("\"nonce\":\""), guest->nonce, NONCE) == 0) {
        guest->answered = 1;
        answers++;
    }
}

static void hear_all(int milliseconds)
{
    struct epoll_event events[BATCH];
    int found;

    do {
        found = epoll_wait(poll_fd, events, BATCH, milliseconds);
        for (int i = 0; i < found; i++)
            hear(&guests[events[i].data.u32]);
        milliseconds = 0;
    } while (found == BATCH);
}

/* Hear what comes until a slot's moment. */
static void wait_until(int64_t moment, int batch)
{
    struct timespec at = { moment / SECOND, moment % SECOND };
    int64_t left;

    /* epoll_wait() counts in milliseconds: sleep through the rest of one. */
    while (!batch && (left = moment - now_ns()) > SECOND / 1000)
        hear_all(left / (SECOND / 1000));
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    hear_all(0);
}

static double cpu_s(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
        + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void report_losses(void)
{
    printf("{\"lost_good\":%ld,\"lateness_ms\":[", lost_good);
    for (int i = 0; i < lost_hang; i++)
        printf("%s%.3f", i ? "," : "", lateness[i]);
    printf("]}\n");
}

int main(int argc, char **argv)
{
    int good, batch;
    int64_t slot = 0, start, warm, window, end, began_at = 0;
    double began_cpu = 0;

    expect(argc == 8, "usage: floor FOLDER GOOD HANG WARM_UP_S WINDOW_S "
           "JUDGE_S each|batch");
    good = atoi(argv[2]);
    count = good + atoi(argv[3]);
    warm = atof(argv[4]) * SECOND / SLOT;
    window = warm + atof(argv[5]) * SECOND / SLOT;
    end = window + atof(argv[6]) * SECOND / SLOT;
    batch = strcmp(argv[7], "batch") == 0;
    raise_limit();
    guests = calloc(count, sizeof(*guests));
    lateness = calloc(count, sizeof(*lateness));
    check(guests && lateness, "calloc");
    poll_fd = epoll_create1(0);
    connect_all(argv[1], "good", 0, good);
    connect_all(argv[1], "hang", good, count);
    printf("ready\n");
    fflush(stdout);
    for (start = now_ns(); slot <= end; slot++) {
        int64_t moment = start + slot * SLOT;

        wait_until(moment, batch);
        if (slot == warm) {
            began_at = now_ns();
            began_cpu = cpu_s();
            answers = 0;
        } else if (slot == window) {
            double seconds = (double)(now_ns() - began_at) / SECOND;

            printf("{\"cpu\":%.5f,\"answers\":%.1f}\n",
                   (cpu_s() - began_cpu) / seconds, answers / seconds);
            fflush(stdout);
        }
        turn(slot, good, moment);
    }
    report_losses();
    return 0;
}
