/* Lets user-mode Linux run on processors whose registers are wider than it knows, such as those with AMX.
 *
 * Its kernel keeps 2696 bytes of a process's extended registers and gives as many back. Since Linux 5.16 the machine's
 * kernel takes all of them or none. The rest is zero here: what user-mode Linux does not know, its processes can't use.
 * Loaded before libc, whose ptrace() this stands in for.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long set_registers(pid_t process, struct iovec *known) {
  static char state[65536];
  static size_t size;
  struct iovec whole = {state, sizeof state};
  if (size == 0) {
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, process, NT_X86_XSTATE, &whole) < 0) return -1;
    size = whole.iov_len;
    memset(state, 0, sizeof state);
  }
  if (known->iov_len >= size) return syscall(SYS_ptrace, PTRACE_SETREGSET, process, NT_X86_XSTATE, known);
  memcpy(state, known->iov_base, known->iov_len);
  whole.iov_len = size;
  return syscall(SYS_ptrace, PTRACE_SETREGSET, process, NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  pid_t process = va_arg(arguments, pid_t);
  void *address = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);
  if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) return set_registers(process, data);
  /* The system call writes what it has read. libc's function returns it, and only errno tells a word of -1 from a failure. */
  if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
    long word;
    if (syscall(SYS_ptrace, request, process, address, &word) < 0) return -1;
    errno = 0;
    return word;
  }
  return syscall(SYS_ptrace, request, process, address, data);
}
