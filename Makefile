# tandem: disaggregated serving of language models on CPU servers.
#
#   make               build the five programs into build/bin
#   make demo          install what is missing, build, run deploy/demo.yaml end to end, clean up
#   make check         install what the tests need, build, run every test (also under sanitizers)
#   make unit          unit tests only, no sanitizers;  make unit T=ring runs those whose path matches
#   make lint          compiler warnings as errors, clang-tidy, cppcheck, layers and sizes
#   make fuzz          build the fuzzers, with clang; tests/fuzz/run.sh runs one
#   make sim           the step machines under seeded faults, simulated: N=1000000 schedules, or SEED=7;
#                      NODES=4000: the router's policies and cost with so many nodes (TRACE=, ARGS=)
#   make chaos         kills and stops nodes of a real cluster under load: N=10 of each role; N=200 takes half an hour
#   make check-netns   several hosts for real, in network namespaces with sshd; as root
#   make tour          a cluster on four hosts (namespaces; as root): up, a host joins, one dies, under load;
#                      goodput before and after, the report and its picture in build/tour
#   make bench-router  what a token costs the router: mock nodes, 1,000 streams
#   make bench-kernels each kernel of each tier against the reference kernel and the machine
#   make ARCH=aarch64  the same for 64-bit Arm on another machine, into build/aarch64; what it needs
#                      brings deploy/install-deps.sh build arm; `make ARCH=aarch64 unit` runs in qemu
#   make bench-kv      moving KV between nodes: GB/s beside memcpy, first and second token, steps (MODEL=, ARGS=)
#   make bench-goodput requests within latency targets: disaggregated, aggregated (MODEL=, ARGS=), and a
#                      llama-server (LLAMA=); make bench-stall: the same, of long prompts beside answers
#   make bench-prefix  prompt tokens that a shared beginning saves (MODEL=, ARGS=)
#   make install       programs and the default model into $(DESTDIR)$(PREFIX)
#   make clean         remove build/
#
# Variables: V=1 shows commands; SAN=1 builds with ASan and UBSan into build/san; TSAN=1 with TSan
# into build/tsan; CC, CFLAGS, PREFIX as usual.

VERSION := 0.1.0
HOST    := $(shell uname -m)
ARCH    ?= $(HOST)
PREFIX  ?= /usr/local
OUT     ?= build
CFLAGS  ?= -O2 -g
Q       := $(if $(V),,@)

# For another machine: Debian's cross compiler, its libraries in a folder (deploy/arm-sysroot.sh).
BUILD := $(OUT)
ifneq ($(ARCH),$(HOST))
BUILD := $(OUT)/$(ARCH)
SYSROOT ?= $(BUILD)/sysroot
ifeq ($(origin CC),default)
CC := $(ARCH)-linux-gnu-gcc --sysroot=$(SYSROOT)
endif
ifeq ($(origin AR),default)
AR := $(ARCH)-linux-gnu-ar
endif
OBJCOPY ?= $(ARCH)-linux-gnu-objcopy
ifeq ($(wildcard $(SYSROOT)/usr)$(filter clean,$(MAKECMDGOALS)),)
$(error no libraries of $(ARCH) in $(SYSROOT): deploy/install-deps.sh build arm)
endif
EMULATOR ?= qemu-$(ARCH) -L $(SYSROOT)
endif

OBJCOPY ?= objcopy

ifdef SAN
BUILD := $(BUILD)/san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifdef TSAN
BUILD := $(BUILD)/tsan
SANFLAGS := -fsanitize=thread -fno-omit-frame-pointer
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
# -ffp-contract=off: compilers disagree on when to fuse; fused operations are written out.
override CFLAGS += -std=c11 -D_GNU_SOURCE -DTANDEM_VERSION='"$(VERSION)"' $(WARN) -ffp-contract=off \
	-fno-math-errno -pthread -fstack-protector-strong -Icommon -I$(BUILD)/proto -I. $(SANFLAGS)
# --as-needed: only `tandem top` draws.
LDLIBS := -lzmq -lprotobuf-c -lyaml -lhwloc -levent -ljansson -lxxhash -lm -pthread \
	-Wl,--as-needed -lncursesw -ltinfo -Wl,--no-as-needed

# Sanitizers at -O3 take gcc minutes and a gigabyte for an unrolled kernel; -O1 checks the same code.
# The expensive optimizations bring vzeroupper, without which all SSE code after a kernel crawls.
KOPT := $(if $(SANFLAGS),-O1 -fexpensive-optimizations,-O3)
# A kernel file is compiled for the instruction set that its name ends with, and kernels are -O3.
# (Of the patterns that match, make lets the one with the shortest stem win.)
$(BUILD)/common/kernels/%.o: ISA := $(KOPT)
$(BUILD)/common/kernels/x86/%_avx2.o: ISA := $(KOPT) -mavx2 -mfma -mf16c
AVX512VNNI := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
$(BUILD)/common/kernels/x86/%_avx512vnni.o: ISA := $(KOPT) $(AVX512VNNI)
$(BUILD)/common/kernels/x86/%_amx.o: ISA := $(KOPT) $(AVX512VNNI) -mavx512vbmi -mavx512bf16 \
	-mamx-tile -mamx-bf16 -mamx-int8
# Scheduled before registers are given out, a tile's sums no longer fit them; the cores reorder anyway.
ARM_KOPT := $(KOPT) -fno-schedule-insns
$(BUILD)/common/kernels/arm/%_neon.o: ISA := $(ARM_KOPT) -march=armv8.2-a
$(BUILD)/common/kernels/arm/%_dotprod.o: ISA := $(ARM_KOPT) -march=armv8.2-a+dotprod
$(BUILD)/common/kernels/arm/%_i8mm.o: ISA := $(ARM_KOPT) -march=armv8.2-a+dotprod+i8mm

PROTOS  := $(wildcard proto/*.proto)
PB_C    := $(PROTOS:proto/%.proto=$(BUILD)/proto/%.pb-c.c)
PB_H    := $(PB_C:.c=.h)
SRCS    := $(sort $(shell find common -name '*.c'))
SRCS    := $(filter-out $(if $(filter x86_64,$(ARCH)),,common/kernels/x86/%) \
	$(if $(filter aarch64,$(ARCH)),,common/kernels/arm/%),$(SRCS))
COMMON  := $(SRCS:%.c=$(BUILD)/%.o) $(PB_C:.c=.o)
LIBCOMMON := $(BUILD)/libcommon.a

# Each program is its folder: main.c, and an archive of the rest that unit tests link too.
DIRS    := router prefill-node decode-node deploy bench
PROGRAM_router := tandem-router
PROGRAM_prefill-node := tandem-prefill
PROGRAM_decode-node := tandem-decode
PROGRAM_deploy := tandem
PROGRAM_bench := tandem-bench
# A node may change its role, so both programs have both.
ROLES_prefill-node := $(BUILD)/libdecode-node.a
ROLES_decode-node := $(BUILD)/libprefill-node.a
ARCHIVES := $(foreach d,$(DIRS),$(if $(filter-out %/main.c,$(wildcard $(d)/*.c)),$(BUILD)/lib$(d).a))
PROGRAMS := $(foreach d,$(DIRS),$(if $(wildcard $(d)/main.c),$(BUILD)/bin/$(PROGRAM_$(d))))

TEST_SRCS := $(sort $(shell find tests/unit -name 'test_*.c'))
TESTS   := $(TEST_SRCS:tests/unit/%.c=$(BUILD)/tests/%)
TEST_LIB := $(sort $(wildcard tests/lib/*.c))
CHECKS  := $(patsubst tests/kernels/%.c,$(BUILD)/tests/%,$(wildcard tests/kernels/bench_*.c))

SIM     := $(BUILD)/tests/tandem-sim
MOCK    := $(BUILD)/tests/tandem-mock
CHAOS   := $(BUILD)/tests/tandem-streams
BENCH_KV := $(BUILD)/tests/tandem-bench-kv
WIRE    := $(BUILD)/tests/tandem-wire

.PHONY: all demo check check-netns tour unit lint fuzz sim chaos bench-router bench-kernels bench-kv bench-goodput bench-stall bench-prefix install clean help tests
.SECONDARY:
all: $(PROGRAMS)
help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

tests: $(TESTS) $(CHECKS) $(SIM) $(MOCK) $(CHAOS) $(BENCH_KV) $(WIRE)
fuzz: $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(wildcard tests/fuzz/*.c))
demo:
	$(Q)deploy/install-deps.sh build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)deploy/demo.sh $(BUILD)/bin
check:
	$(Q)deploy/install-deps.sh build check
	$(Q)tests/check.sh
check-netns: all $(CHAOS) $(WIRE)
	$(Q)deploy/install-deps.sh build check
	$(Q)bad=0; for s in tests/netns/*.sh; do \
		TANDEM_BIN=$(BUILD)/bin FULL=1 $$s | tee $(BUILD)/netns.log; \
		grep -qE '^(ok|skip) ' $(BUILD)/netns.log && ! grep -q '^not ok ' $(BUILD)/netns.log || bad=1; done; exit $$bad
tour: all $(CHAOS)
	$(Q)deploy/install-deps.sh build check
	$(Q)deploy/tour.sh $(BUILD)/bin $(BUILD)/tour
unit: $(TESTS)
	$(Q)EMULATOR='$(EMULATOR)' tests/run.sh $(BUILD) '$(T)'
lint:
	$(Q)deploy/install-deps.sh build lint
	$(Q)tests/lint.sh
sim: $(SIM)
	$(Q)$(SIM) $(if $(NODES),--nodes $(NODES) $(if $(TRACE),--trace $(TRACE)) $(ARGS),$(if \
		$(SEED),--seed $(SEED) $(if $(TELL),--tell),$(if $(N),--schedules $(N))))
chaos: all $(CHAOS)
	$(Q)TANDEM_BIN=$(BUILD)/bin N=$(or $(N),10) tests/chaos/chaos.sh $(CHAOS)
bench-router: all $(MOCK)
	$(Q)bench/mock/router.sh $(BUILD)/bin $(MOCK) http
	$(Q)bench/mock/router.sh $(BUILD)/bin $(MOCK) native
bench-kernels: $(CHECKS)
	$(Q)for b in $(CHECKS); do $$b || exit 1; done
bench-kv: $(BENCH_KV) all
	$(Q)$< ttft $(BUILD)/bin/tandem-prefill $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf)
	$(Q)$< ingest $(BUILD)/bin/tandem-decode $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf)
	$(Q)TANDEM_BIN=$(BUILD)/bin bench/kv/second.sh $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf)
	$(Q)$< $(ARGS)
bench-goodput: all
	$(Q)bench/goodput.sh $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf) $(if $(LLAMA),-l $(LLAMA)) \
		$(or $(ARGS),-r 10 -n 100 -p 300 -o 40 -t 500 -g 50)
bench-stall: all
	$(Q)bench/goodput.sh $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf) $(if $(LLAMA),-l $(LLAMA)) \
		-r 0.12 -n 30 -p 400 -o 64 -t 5000 -g 150 $(ARGS)
bench-prefix: all
	$(Q)bench/prefix.sh $(or $(MODEL),deploy/demo/austen-5m-q8_0.gguf) $(or $(ARGS),-s 1000 -u 16)
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/tandem
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 deploy/demo/austen-5m-q8_0.gguf $(DESTDIR)$(PREFIX)/share/tandem
clean:
	rm -rf $(OUT)

$(BUILD)/proto/%.pb-c.c: proto/%.proto
	@mkdir -p $(@D)
	@echo "  PROTO $<"
	$(Q)protoc-c --proto_path=proto --c_out=$(@D) $<
$(PB_C:.c=.h): %.h: %.c ;
# Generated code is held to the compiler's defaults, not to our warnings.
$(BUILD)/proto/%.pb-c.o: $(BUILD)/proto/%.pb-c.c | $(PB_H)
	@echo "  CC    $<"
	$(Q)$(CC) $(CFLAGS) -w -c -o $@ $<
$(BUILD)/%.o: %.c | $(PB_H)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<
$(BUILD)/router/page.o: router/page/index.html
$(LIBCOMMON): $(COMMON)
	@echo "  AR    $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $(COMMON)
define dir_rules
$(BUILD)/lib$(1).a: $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(1)/main.c,$(wildcard $(1)/*.c)))
	@echo "  AR    $$@"
	$(Q)rm -f $$@ && $(AR) rcs $$@ $$^
$(BUILD)/bin/$(PROGRAM_$(1)): $(BUILD)/$(1)/main.o $(filter $(BUILD)/lib$(1).a $(ROLES_$(1)),$(ARCHIVES)) $(LIBCOMMON)
	@mkdir -p $$(@D)
	@echo "  LD    $$@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ -Wl,--start-group $$^ -Wl,--end-group $(LDLIBS)
endef
$(foreach d,$(DIRS),$(eval $(call dir_rules,$(d))))
$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(ARCHIVES) $(LIBCOMMON)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ -Wl,--start-group $^ -Wl,--end-group -lcmocka $(LDLIBS)
$(BUILD)/tests/bench_%: $(BUILD)/tests/kernels/bench_%.o $(LIBCOMMON)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(MOCK): $(BUILD)/bench/mock/mock_node.o $(LIBCOMMON)
$(CHAOS): $(BUILD)/tests/chaos/streams.o $(LIBCOMMON)
$(BENCH_KV): $(patsubst %.c,$(BUILD)/%.o,$(wildcard bench/kv/*.c)) $(LIBCOMMON)
$(WIRE): $(BUILD)/tests/netns/wire.o $(LIBCOMMON)
$(MOCK) $(CHAOS) $(BENCH_KV) $(WIRE):
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The three step machines in one program: of each daemon only what begins with its name is seen.
SIM_SRCS := $(wildcard tests/sim/*.c)
SIM_CORES := $(foreach d,router prefill-node decode-node,$(BUILD)/tests/sim/$(d).core.o)
$(BUILD)/tests/sim/%.core.o: $(BUILD)/lib%.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANFLAGS) -nostdlib -r -o $@ -Wl,--whole-archive $<
	$(Q)$(OBJCOPY) -w --keep-global-symbol='$(firstword $(subst -, ,$*))_*' $@
$(SIM): $(SIM_SRCS:%.c=$(BUILD)/%.o) $(SIM_CORES) $(BUILD)/bench/trace.o $(BUILD)/bench/lines.o \
	$(LIBCOMMON)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# Fuzzers are of what reads foreign bytes, and are built in one go, all with coverage; without the
# kernels, which take clang minutes under it.
FUZZ_SRCS := $(filter common/base/% common/config/% common/model/% common/net/codec% common/net/msg.c, \
	$(SRCS)) $(PB_C)
$(OUT)/fuzz/%: tests/fuzz/%.c $(FUZZ_SRCS)
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	$(Q)clang -O1 -g -std=c11 -D_GNU_SOURCE -DTANDEM_VERSION='"$(VERSION)"' -Icommon -I$(BUILD)/proto -I. \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $^ $(LDLIBS)

-include $(shell find $(BUILD) -type f -name '*.d' 2>/dev/null)
