# make demo    photos and a clip -> restored -> proven mobile artifacts -> build/demo/report.html
# make test    formatter, linter, type checker, tests: what CI runs
# make android   the app, build/android/afterlens.apk, with the demo's bundles (JDK, Maven, apksigner)
# make android-test   the Kotlin libraries, by Maven, on Android's own runtime (a JDK of at least 17, gcc, Mesa)
# make web     the page that `afterlens live` serves, into afterlens/page (Node 20.19 or newer, npm)
# make gpu     the demo's float files on LiteRT's GPU accelerator, in software (chromium, libvulkan1)
# make arm64   the demo's TFLite files on ARM's CPU kernels, in QEMU (qemu-user-static, debootstrap)
# make retrain-reflection retrain-reflection_glass retrain-udc_still DATA=folder   train these weights anew; run it again to continue a stopped run
# make clean   remove what these made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test android android-test web gpu arm64 clean retrain-reflection retrain-reflection_glass retrain-udc_still
unexport PYTHONPATH PYTHONHOME

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := build/demo

# Any interpreter that is a 3.11; override with `make PYTHON=/path/to/python3.11 ...`.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)

# After set-up nothing needs the network, and this says so to the libraries that might try. One thread for each process,
# because two or three run side by side: on two cores, threads that wait for each other cost more than they bring.
export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export TF_NUM_INTRAOP_THREADS := 1
export TF_NUM_INTEROP_THREADS := 1

# The converter asks for opencv-python, which needs a desktop's libGL. The headless build of the same version has the
# same files without that, so it goes on top.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is needed and was not found (python3.11, python3, python);" \
		"install it or give its path: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --force-reinstall \
		opencv-python-headless==$$(sed -n 's/^opencv-python==//p' constraints.txt)
	touch $@

TASKS := reflection udc deblur
KINDS := reflection shadow stain occlusion

# One size and one network with all variants show every step; without these options, `afterlens convert TASK` also makes
# 1280x720 and all variants. Which layers of the larger networks must stay in float takes minutes to find out.
FLOATS := --variants float32.tflite,float16.tflite
demo: $(STAMP)
	@echo "== Restore photos: remove a reflection, a shadow, water stains and something in front of the lens"
	$(BIN)/afterlens restore reflection $(KINDS:%=afterlens/samples/degraded/%.jpg) -o $(DEMO)/restored
	@echo "== Restore a photo that was taken through a display"
	$(BIN)/afterlens restore udc afterlens/samples/degraded/udc.jpg -o $(DEMO)/restored/udc.png
	@echo "== Take the beard off a face, a rendered one of nobody"
	$(BIN)/afterlens restore beard afterlens/samples/degraded/beard.jpg --wanted none -o $(DEMO)/restored/beard.png
	@echo "== Show somebody who does not exist in the place of a face in a clip, a rendered one as well"
	$(BIN)/afterlens restore swap afterlens/samples/clips/head.mp4 -o $(DEMO)/restored/head.mp4
	@echo "== Deblur frames of a clip of moving hands (a video file works, too)"
	$(BIN)/afterlens restore deblur afterlens/samples/clips/hands -o $(DEMO)/restored/hands
	@echo "== Convert the networks for phones: TFLite and Core ML, float and quantized"
	$(BIN)/afterlens convert reflection -o $(DEMO)/reflection --size 256x256 $(FLOATS),float16.mlpackage
	$(BIN)/afterlens convert udc -o $(DEMO)/udc --size 256x256
	$(BIN)/afterlens convert deblur -o $(DEMO)/deblur --size 256x256 $(FLOATS)
	@echo "== Prove that every converted file computes what PyTorch computes, and that its pictures are as good"
	$(foreach task,$(TASKS),$(BIN)/afterlens verify $(DEMO)/$(task) &&) true
	@echo "== Time the TFLite files on this machine, beside PyTorch and ONNX Runtime (this does not predict phones)"
	$(foreach task,$(TASKS),$(BIN)/afterlens bench $(DEMO)/$(task) --runs 10 -o $(DEMO)/$(task).json &&) true
	@echo "== Write one page with pictures, proof, sizes and times"
	$(BIN)/afterlens report $(TASKS:%=$(DEMO)/%) $(TASKS:%=--bench $(DEMO)/%.json) -o $(DEMO)/report.html \
		$(foreach kind,$(KINDS) udc beard,--photo afterlens/samples/degraded/$(kind).jpg=$(DEMO)/restored/$(kind).png) \
		--photo afterlens/samples/clips/hands/hands_46.jpg=$(DEMO)/restored/hands/hands_46.png
	@echo "== Done: open $(DEMO)/report.html"

# Files in the order of their names: tests/android, with the longest test, starts first. (pytest-xdist would begin with the
# files that have the most tests.)
test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The app with the demo's bundles inside, or those of another folder: make android BUNDLES=folder
BUNDLES ?= $(DEMO)
android: $(STAMP)
	$(BIN)/python -m android.apk --bundles $(BUNDLES)

android-test: $(STAMP)
	$(BIN)/python -m pytest tests/android

# Needs the network for the packages that web/package.json pins; the page itself asks for nothing outside.
web:
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null \
		&& npm --version >/dev/null 2>&1 || { echo "error: the page is built with Node 20.19 or newer and npm, which were not" \
		"found; install them (https://nodejs.org)" >&2; exit 2; }
	cd web && npm install --no-audit --no-fund && npm run build

# Processors that this machine lacks, for the demo's bundles or those of another folder: make gpu BUNDLES=folder. Minutes.
gpu arm64: $(STAMP)
	$(BIN)/python -m afterlens.conversion.emulated.prove $@ \
		$(or $(patsubst %/model.json,%,$(wildcard $(BUNDLES)/*/model.json)),$(BUNDLES))

# DATA holds train_clean and train_video, all under licences that let the weights be shipped. Frames of a clip are much
# alike, so every tenth will do. The weights are then in runs/reflection/last.safetensors, and so on.
DATA ?= ../shared/data
FREE = $(DATA)/train_clean $(DATA)/train_video/davis/*/000?0.jpg $(DATA)/train_video/intel_asl/*.mkv --weights last \
	--data-licence "CC BY, CC BY-SA, CC0 and similarly free, see CREDITS.md; DAVIS: BSD; Intel: CC BY 4.0"
CONTINUED = $(if $(wildcard runs/$(1)/checkpoints/step_*.safetensors),--resume)
retrain-reflection: $(STAMP)
	$(BIN)/afterlens train reflection $(FREE) -o runs/reflection $(call CONTINUED,reflection)

# For reflections alone. Its encoder starts from udc's.
NONE = region shadow stain occlusion cast_shadow droplets object
retrain-reflection_glass: $(STAMP)
	$(BIN)/afterlens train reflection $(FREE) -o runs/reflection_glass $(call CONTINUED,reflection_glass) \
		--from training/pretrained/udc_still.safetensors -s network.gated_encoder=false -s network.widths=[96,96,128] \
		-s network.depths=[4,4,3] -s training.steps=6750 -s training.batch=16 -s training.learning_rate=1e-3 \
		-s training.crop=192 -s crops.sizes=[[0,96],[80000,128],[104000,192]] $(NONE:%=-s synthesis.kinds.%=0) \
		-s synthesis.kinds.reflection=0.3 -s synthesis.kinds.pane=0.38 -s synthesis.kinds.clean=0.32

retrain-udc_still: $(STAMP)
	$(BIN)/afterlens train udc $(FREE) -o runs/udc_still $(call CONTINUED,udc_still) -s network.widths=[96,96,128] \
		-s network.depths=[4,4,3] -s network.decoder_depths=[4,4] -s training.steps=42000 -s training.learning_rate=1.2e-3

clean:
	rm -rf $(VENV) build web/node_modules afterlens/page
