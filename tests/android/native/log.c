/* Android's log, on stderr. */
#include <stdarg.h>
#include <stdio.h>

int __android_log_write(int priority, const char *tag, const char *text) {
  char letter = priority >= 0 && priority < 9 ? "??VDIWEFS"[priority] : '?';
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
