/* Bionic on glibc, x86_64: lets a desktop's loader load an unmodified Android library, so that tests run the very
 * runtime that phones run.
 *
 * Every import of an Android library carries the symbol version LIBC, which no symbol of glibc has, so each binds here
 * and nowhere else. What has the same calling convention and the same structures is a jump to glibc's function
 * (forward.inc, written by build.sh); the functions here are those that differ. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORWARD_TO(name, target)                                                     \
  __asm__(".text\n.globl f_" #name "\n.type f_" #name ",@function\nf_" #name         \
          ":\n\tjmp *" #target "@GOTPCREL(%rip)\n.size f_" #name ",.-f_" #name       \
          "\n.symver f_" #name "," #name "@LIBC\n");
#define FORWARD(name) FORWARD_TO(name, name)
#define EXPORT(name) __asm__(".symver b_" #name "," #name "@LIBC");

#include "forward.inc"
FORWARD_TO(__errno, __errno_location)
FORWARD_TO(strerror_r, __xpg_strerror_r) /* bionic's is the POSIX one */
FORWARD_TO(__vsnprintf_chk, __vsnprintf_chk)

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("bionic: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

/* stdin, stdout and stderr are &__sF[0..2], 152 bytes each. */
char b___sF[3 * 152];
EXPORT(__sF)
static FILE *real(void *file) {
  long distance = (char *)file - b___sF;
  if (distance < 0 || distance >= (long)sizeof b___sF) return file;
  return distance / 152 == 0 ? stdin : distance / 152 == 1 ? stdout : stderr;
}
int b_fprintf(void *file, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int written = vfprintf(real(file), format, arguments);
  va_end(arguments);
  return written;
}
int b_vfprintf(void *file, const char *format, va_list arguments) { return vfprintf(real(file), format, arguments); }
int b_fputc(int c, void *file) { return fputc(c, real(file)); }
int b_fflush(void *file) { return fflush(file ? real(file) : NULL); }
int b_fclose(void *file) { return fclose(real(file)); }
int b_fileno(void *file) { return fileno(real(file)); }
size_t b_fread(void *to, size_t size, size_t count, void *file) { return fread(to, size, count, real(file)); }
size_t b_fwrite(const void *from, size_t size, size_t count, void *file) { return fwrite(from, size, count, real(file)); }
EXPORT(fprintf) EXPORT(vfprintf) EXPORT(fputc) EXPORT(fflush) EXPORT(fclose) EXPORT(fileno) EXPORT(fread) EXPORT(fwrite)

/* Other constants. */
long b_sysconf(int name) {
  switch (name) {
    case 0x27: case 0x28: return sysconf(_SC_PAGESIZE);
    case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
    case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
    case 0x62: return sysconf(_SC_PHYS_PAGES);
    case 0x63: return sysconf(_SC_AVPHYS_PAGES);
  }
  say("sysconf(0x%x) is unknown", name);
  errno = EINVAL;
  return -1;
}
EXPORT(sysconf)

/* Both have 48 bytes, but bionic aligns to 4 and glibc does 64-bit atomics in it: glibc's lies on the heap, its address
 * in an 8-aligned word of bionic's. */
static pthread_cond_t *condition(void *bionic) {
  pthread_cond_t **word = (void *)(((unsigned long)bionic + 7) & ~7UL);
  pthread_cond_t *found = __atomic_load_n(word, __ATOMIC_ACQUIRE), *none = NULL;
  if (found) return found;
  found = calloc(1, sizeof *found);
  if (__atomic_compare_exchange_n(word, &none, found, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return found;
  free(found);
  return none;
}
int b_pthread_cond_init(void *bionic, const void *attributes) {
  if (attributes) say("pthread_cond_init: attributes are ignored");
  memset(bionic, 0, 48);
  return 0;
}
int b_pthread_cond_destroy(void *bionic) {
  pthread_cond_t *found = condition(bionic);
  int result = pthread_cond_destroy(found);
  free(found);
  memset(bionic, 0, 48);
  return result;
}
int b_pthread_cond_wait(void *bionic, pthread_mutex_t *mutex) { return pthread_cond_wait(condition(bionic), mutex); }
int b_pthread_cond_signal(void *bionic) { return pthread_cond_signal(condition(bionic)); }
int b_pthread_cond_broadcast(void *bionic) { return pthread_cond_broadcast(condition(bionic)); }
EXPORT(pthread_cond_init) EXPORT(pthread_cond_destroy) EXPORT(pthread_cond_wait)
EXPORT(pthread_cond_signal) EXPORT(pthread_cond_broadcast)

/* A mutex has 40 bytes in both, all zero when new: glibc's works in place. */
int b_pthread_mutex_init(pthread_mutex_t *mutex, const long *attributes) {
  if (attributes) say("pthread_mutex_init: attributes are ignored");
  return pthread_mutex_init(mutex, NULL);
}
int b_pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *), void *argument) {
  if (attributes) say("pthread_create: attributes are ignored");
  return pthread_create(thread, NULL, start, argument);
}
EXPORT(pthread_mutex_init) EXPORT(pthread_create)

/* XNNPACK for Android allocates at 32 bytes, yet some of its AVX-512 kernels load from 64 (float to int8: SIGSEGV on a
 * server's processor; no phone has AVX-512). */
void *b_memalign(size_t alignment, size_t size) { return memalign(alignment < 64 ? 64 : alignment, size); }
int b_posix_memalign(void **to, size_t alignment, size_t size) {
  return posix_memalign(to, alignment < 64 ? 64 : alignment, size);
}
EXPORT(memalign) EXPORT(posix_memalign)

/* What only bionic has. */
int b___open_2(const char *path, int flags) { return open(path, flags); }
size_t b___strlen_chk(const char *text, size_t size) { return (void)size, strlen(text); }
void b_android_set_abort_message(const char *text) { say("abort: %s", text); }
int b___system_property_get(const char *name, char *value) {
  return strlen(strcpy(value, strcmp(name, "ro.build.version.sdk") ? "" : "34"));
}
EXPORT(__open_2) EXPORT(__strlen_chk) EXPORT(android_set_abort_message) EXPORT(__system_property_get)
void *b_dlopen(const char *name, int flags) { return dlopen(name, flags & RTLD_GLOBAL ? RTLD_NOW | RTLD_GLOBAL : RTLD_NOW); }
EXPORT(dlopen)
