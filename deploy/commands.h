/* commands: the subcommands of `tandem`, one file each (cmd_NAME.c). Each gets argv from its own name
 * on, prints its result on stdout and errors as one sentence on stderr, and returns EXIT_*. */
#ifndef TANDEM_DEPLOY_COMMANDS_H
#define TANDEM_DEPLOY_COMMANDS_H

int cmd_agent(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_drain(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_role(int argc, char **argv);
int cmd_scale(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_detokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);

#endif
