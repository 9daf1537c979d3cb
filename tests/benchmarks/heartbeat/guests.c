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
 * Guests for the benchmark: thousands of them in one process.
 *
 *     guests FOLDER plain|full
 *
 * Listens on a unix socket in FOLDER for each way to behave, and takes as many
 * connections as come:
 *
 *     good     answers each challenge at once
 *     hang     does so until it is told to hang, then reads no more
 *     flood    writes as fast as the socket takes it
 *     deaf     never reads and never writes
 *
 * An answer is the protocol's least one (plain), or what the Python agent says
 * of a guest with two audits (full). Says "ready" when it listens. A line
 * "hang SECONDS" on stdin makes those of "hang" stop one after the other,
 * spread over that time; "mark" forgets the longest time so far. At the end of
 * stdin it prints one JSON object: counts; of the good guests the longest time
 * between two challenges; and when those that hang got the first challenge
 * that they did not answer.
 */

#include "bench.h"

#include <fcntl.h>

#define MOST 20000
#define BATCH 512
#define FLOOD_BLOCK 65536
#define PARTIAL 1024            /* the host's longest line */

enum mode { GOOD, HANG, FLOOD, DEAF, MODES };
static const char *const names[MODES] = { "good", "hang", "flood", "deaf" };

/* epoll's numbers: guests from 0, then the listeners, then stdin. */
#define LISTENER MOST
#define COMMANDS (MOST + MODES)

struct guest {
    int fd;
    enum mode mode;
    int order;                  /* among those of its mode */
    int64_t heard_at;           /* the latest challenge */
    int64_t hung_at;
    int partial_size;
    char partial[PARTIAL];
};

static struct guest *guests[MOST];
static int count, of_mode[MODES], poll_fd, full;
static int64_t hang_from = INT64_MAX, hang_over, longest_gap;
static long challenges, answers;

/* Three floods: an endless line, garbage, and health that never rests. */
static const char *const flood_texts[] = {
    "a", "{\"type\":\"nonsense\"}\n",
    "{\"type\":\"report\",\"health\":\"unhealthy\"}\n"
    "{\"type\":\"report\",\"health\":\"healthy\"}\n",
};
#define FLOODS ((int)(sizeof(flood_texts) / sizeof(*flood_texts)))
static char floods[FLOODS][FLOOD_BLOCK];

static const char *const health =
    ",\"health\":\"healthy\",\"audits\":["
    "{\"name\":\"disk\",\"health\":\"healthy\",\"message\":\"71% used\"},"
    "{\"name\":\"db\",\"health\":\"healthy\",\"message\":\"lag 0.2 s\"}]";

static void fill_floods(void)
{
    for (int i = 0; i < FLOODS; i++) {
        size_t length = strlen(flood_texts[i]);

        for (size_t at = 0; at < FLOOD_BLOCK; at++)
            floods[i][at] = flood_texts[i][at % length];
    }
}

static int listen_at(const char *folder, const char *name)
{
    struct sockaddr_un address = address_of(folder, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    check(fd >= 0, "socket");
    unlink(address.sun_path);
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
          address.sun_path);
    check(listen(fd, 4096) == 0, "listen");
    return fd;
}

static void accept_all(int listener, enum mode mode)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct guest *guest = calloc(1, sizeof(*guest));

        expect(guest && count < MOST, "too many guests");
        guest->fd = fd;
        guest->mode = mode;
        guest->order = of_mode[mode]++;
        guests[count] = guest;
        if (mode != DEAF)
            watch_fd(poll_fd, fd, EPOLLIN | (mode == FLOOD ? EPOLLOUT : 0),
                     count);
        count++;
    }
    check(errno == EAGAIN, "accept4");
}

static int hangs_now(const struct guest *guest, int64_t now)
{
    return guest->mode == HANG && hang_from != INT64_MAX
        && now >= hang_from + hang_over * guest->order / of_mode[HANG];
}

static void answer(struct guest *guest, const char *line)
{
    const char *sequence = strstr(line, "\"sequence\":");
    const char *nonce = strstr(line, "\"nonce\":\"");
    char text[PARTIAL];
    int size;

    if (!sequence || !nonce)
        return;
    size = snprintf(text, sizeof(text),
                    "{\"type\":\"challenge_response\",\"sequence\":%lld,"
                    "\"nonce\":\"%.32s\"%s}\n",
                    atoll(sequence + strlen("\"sequence\":")),
                    nonce + strlen("\"nonce\":\""), full ? health : "");
    answers += send(guest->fd, text, size, MSG_NOSIGNAL) == size;
}

static void take_line(struct guest *guest, const char *line, int64_t now)
{
    if (guest->hung_at || !strstr(line, "\"challenge\""))
        return;
    challenges++;
    if (guest->mode == GOOD && guest->heard_at
        && now - guest->heard_at > longest_gap)
        longest_gap = now - guest->heard_at;
    guest->heard_at = now;
    if (guest->mode == FLOOD)
        return;
    if (hangs_now(guest, now)) {
        guest->hung_at = now;
        epoll_ctl(poll_fd, EPOLL_CTL_DEL, guest->fd, NULL);
        return;
    }
    answer(guest, line);
}

static void take_lines(struct guest *guest, int64_t now)
{
    char *start = guest->partial, *end;

    while ((end = memchr(start, '\n', guest->partial_size))) {
        *end = 0;
        take_line(guest, start, now);
        guest->partial_size -= end + 1 - start;
        start = end + 1;
    }
    memmove(guest->partial, start, guest->partial_size);
}

static void serve(struct guest *guest, uint32_t mask, int64_t now)
{
    ssize_t size;

    if (mask & EPOLLOUT)
        send(guest->fd, floods[guest->order % FLOODS], FLOOD_BLOCK,
             MSG_NOSIGNAL);
    if (!(mask & (EPOLLIN | EPOLLHUP)))
        return;
    size = recv(guest->fd, guest->partial + guest->partial_size,
                PARTIAL - guest->partial_size, 0);
    if (size > 0) {
        guest->partial_size += size;
        take_lines(guest, now);
    } else if (size == 0 || errno != EAGAIN) {
        /* Kept in the array: its number is nobody else's. */
        epoll_ctl(poll_fd, EPOLL_CTL_DEL, guest->fd, NULL);
        close(guest->fd);
    }
}

static int take_command(int64_t now)
{
    char text[64];
    ssize_t size = read(STDIN_FILENO, text, sizeof(text) - 1);
    double seconds;

    if (size <= 0)
        return 0;
    text[size] = 0;
    if (strncmp(text, "mark", 4) == 0)
        longest_gap = 0;
    else if (sscanf(text, "hang %lf", &seconds) == 1) {
        hang_over = seconds * SECOND;
        hang_from = now;
    }
    return 1;
}

static void report(void)
{
    const char *comma = "";

    printf("{\"challenges\":%ld,\"answers\":%ld,\"longest_gap_s\":%.6f,"
           "\"hung_at\":[", challenges, answers, (double)longest_gap / SECOND);
    for (int i = 0; i < count; i++) {
        if (!guests[i]->hung_at)
            continue;
        printf("%s%.6f", comma, (double)guests[i]->hung_at / SECOND);
        comma = ",";
    }
    printf("]}\n");
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    int listeners[MODES], running = 1;

    expect(argc == 3, "usage: guests FOLDER plain|full");
    full = strcmp(argv[2], "full") == 0;
    raise_limit();
    fill_floods();
    poll_fd = epoll_create1(0);
    for (int i = 0; i < MODES; i++) {
        listeners[i] = listen_at(argv[1], names[i]);
        watch_fd(poll_fd, listeners[i], EPOLLIN, LISTENER + i);
    }
    watch_fd(poll_fd, STDIN_FILENO, EPOLLIN, COMMANDS);
    printf("ready\n");
    fflush(stdout);
    while (running) {
        int found = epoll_wait(poll_fd, events, BATCH, -1);
        int64_t now = now_ns();

        for (int i = 0; i < found; i++) {
            uint32_t number = events[i].data.u32;

            if (number == COMMANDS)
                running = take_command(now);
            else if (number >= LISTENER)
                accept_all(listeners[number - LISTENER], number - LISTENER);
            else
                serve(guests[number], events[i].events, now);
        }
    }
    report();
    return 0;
}
