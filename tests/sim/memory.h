/* memory.h: the simulator's own malloc(); see memory.c. */
#ifndef SLUICE_TESTS_SIM_MEMORY_H
#define SLUICE_TESTS_SIM_MEMORY_H

/* In a child process, before each seed: everything that this function's last call was followed by is given up, what the parent had stays. */
void memory_begin_seed(void);

#endif
