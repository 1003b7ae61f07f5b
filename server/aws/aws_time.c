/* aws_time.c: times as texts. */
#include "server/aws/aws_time.h"

#include <stdio.h>

#include "proto/base.h"

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}; /* 1970 began with a Thursday */

#define SECONDS_MIN (-62167219200LL) /* the year 0 */
#define SECONDS_MAX 253402300799LL   /* the end of 9999 */

struct moment {
    unsigned year, month, day, hour, minute, second; /* month and day from 1 */
    const char *weekday;
};

/* Days since 1970, of the Gregorian calendar; a year begins in March, so that leap days come last. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void moment_of(int64_t seconds, struct moment *m)
{
    seconds = seconds < SECONDS_MIN ? SECONDS_MIN : seconds > SECONDS_MAX ? SECONDS_MAX : seconds;
    int64_t days = (seconds >= 0 ? seconds : seconds - 86399) / 86400;
    int64_t rest = seconds - days * 86400;
    m->hour = (unsigned)(rest / 3600);
    m->minute = (unsigned)(rest / 60 % 60);
    m->second = (unsigned)(rest % 60);
    m->weekday = weekdays[((days % 7) + 7) % 7];
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    m->day = (unsigned)(of_year - (153 * month + 2) / 5 + 1);
    m->month = (unsigned)(month < 10 ? month + 3 : month - 9);
    m->year = (unsigned)(year + era * 400 + (m->month <= 2));
}

/* n digits at p. */
static bool number(const char *p, size_t n, unsigned *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            return false;
        }
        *out = *out * 10 + (unsigned)(p[i] - '0');
    }
    return true;
}

static bool seconds_of(const struct moment *m, int64_t *seconds)
{
    if (m->month < 1 || m->month > 12 || m->day < 1 || m->day > 31 || m->hour > 23 || m->minute > 59 || m->second > 60) {
        return false;
    }
    *seconds = days_of(m->year, m->month, m->day) * 86400 + m->hour * 3600 + m->minute * 60 + m->second;
    return true;
}

bool aws_time_parse(struct aws_text t, int64_t *seconds)
{
    struct moment m = {0};
    const char *p = t.p;
    if (t.n == 16 && p[8] == 'T' && p[15] == 'Z') {
        return number(p, 4, &m.year) && number(p + 4, 2, &m.month) && number(p + 6, 2, &m.day) && number(p + 9, 2, &m.hour) && number(p + 11, 2, &m.minute) &&
            number(p + 13, 2, &m.second) && seconds_of(&m, seconds);
    }
    if (t.n != 29 || p[3] != ',' || p[4] != ' ' || p[7] != ' ' || p[11] != ' ' || p[16] != ' ' || p[19] != ':' || p[22] != ':' || memcmp(p + 25, " GMT", 4) != 0) {
        return false;
    }
    while (m.month < 12 && memcmp(months[m.month], p + 8, 3) != 0) {
        m.month++;
    }
    m.month++;
    return number(p + 5, 2, &m.day) && number(p + 12, 4, &m.year) && number(p + 17, 2, &m.hour) && number(p + 20, 2, &m.minute) && number(p + 23, 2, &m.second) &&
        seconds_of(&m, seconds);
}

void aws_time_basic(char out[AWS_TIME_BASIC_SIZE], int64_t seconds)
{
    struct moment m;
    moment_of(seconds, &m);
    snprintf(out, AWS_TIME_BASIC_SIZE, "%04u%02u%02uT%02u%02u%02uZ", m.year % 10000, m.month % 100, m.day % 100, m.hour % 100, m.minute % 100, m.second % 100);
}

void aws_time_long(char out[AWS_TIME_LONG_SIZE], int64_t seconds)
{
    struct moment m;
    moment_of(seconds, &m);
    snprintf(out, AWS_TIME_LONG_SIZE, "%s %s %02u %02u:%02u:%02u UTC %04u", m.weekday, months[m.month - 1], m.day, m.hour, m.minute, m.second, m.year);
}

void aws_time_http(char out[AWS_TIME_LONG_SIZE], int64_t seconds)
{
    struct moment m;
    moment_of(seconds, &m);
    snprintf(out, AWS_TIME_LONG_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", m.weekday, m.day, months[m.month - 1], m.year, m.hour, m.minute, m.second);
}
