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

/* What the floor and the guests of the benchmark have in common. */

#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL     /* all times are nanoseconds */

static inline void expect(int good, const char *otherwise)
{
    if (!good) {
        fprintf(stderr, "%s\n", otherwise);
        exit(1);
    }
}

/* For what sets errno. */
static inline void check(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

/* The clock of Python's time.monotonic(). */
static inline int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* A descriptor a guest: the soft limit is often 1,024. */
static inline void raise_limit(void)
{
    struct rlimit limit;

    check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

static inline struct sockaddr_un address_of(const char *folder,
                                            const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int size = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s",
                        folder, name);

    expect(size < (int)sizeof(address.sun_path), "the path is too long");
    return address;
}

static inline void watch_fd(int poll, int fd, uint32_t mask, uint32_t number)
{
    struct epoll_event event = { .events = mask, .data.u32 = number };

    check(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

#endif
