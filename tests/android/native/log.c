/* Android's log, on stderr, and in the file that LOG names: it alone tells what a delegate took. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int __android_log_write(int priority, const char *tag, const char *text) {
  char letter = priority >= 0 && priority < 9 ? "??VDIWEFS"[priority] : '?';
  const char *name = getenv("LOG");
  FILE *file = name ? fopen(name, "a") : NULL;
  if (file) {
    fprintf(file, "%c/%s: %s\n", letter, tag, text);
    fclose(file);
  }
  return fprintf(stderr, "%c/%s: %s\n", letter, tag, text);
}
int __android_log_vprint(int priority, const char *tag, const char *format, va_list arguments) {
  char text[2048];
  vsnprintf(text, sizeof text, format, arguments);
  return __android_log_write(priority, tag, text);
}
int __android_log_print(int priority, const char *tag, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int written = __android_log_vprint(priority, tag, format, arguments);
  va_end(arguments);
  return written;
}
