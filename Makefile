# `make` lists the targets. Everything runs from .venv, which is made on first use.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
BACKENDS ?= 3
INVENTORY ?= inventories/lab
ARGS ?=
LAB_BASE ?=
LAB_SUBNET ?= 10.213.77.0/24
LAB_SSH_PORT ?= 2200
LAB_SITE_PORT ?= 8080
LAB_STATS_PORT ?= 8404
LAB_PROMETHEUS_PORT ?= 9090
LAB_GRAFANA_PORT ?= 3000
FAULTS ?= $(basename $(notdir $(wildcard roles/chaos/tasks/faults/*.yml)))
APP := roles/backend_app/files/app
UV_LOCK := --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
PLAYBOOKS := $(filter-out requirements.yml,$(wildcard *.yml)) $(wildcard playbooks/*.yml)
PARALLEL ?= 3
SCENARIOS := $(notdir $(patsubst %/,%,$(dir $(wildcard molecule/*/molecule.yml))))

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/src
export LAB_BASE
# The project's own, whatever the shell had.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help: ## List the targets and their variables
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "Variables: BACKENDS=$(BACKENDS), INVENTORY=$(INVENTORY), ARGS= (more for ansible-playbook), LAB_BASE= (host image),"
	@echo "LAB_SUBNET=$(LAB_SUBNET), LAB_SSH_PORT=$(LAB_SSH_PORT), LAB_SITE_PORT=$(LAB_SITE_PORT), LAB_STATS_PORT=$(LAB_STATS_PORT),"
	@echo "LAB_PROMETHEUS_PORT=$(LAB_PROMETHEUS_PORT), LAB_GRAFANA_PORT=$(LAB_GRAFANA_PORT), PYTHON=$(PYTHON)"

.PHONY: lab
lab: lab-hosts ## Bring up a whole site on this machine
	ansible-playbook -i inventories/lab site.yml $(ARGS)
	@echo "The lab answers: http://127.0.0.1:$(LAB_SITE_PORT)/ (the site), http://127.0.0.1:$(LAB_STATS_PORT)/stats (HAProxy),"
	@echo "http://127.0.0.1:$(LAB_PROMETHEUS_PORT)/ (Prometheus), http://127.0.0.1:$(LAB_GRAFANA_PORT)/ (Grafana: admin, password in"
	@echo ".lab/lab/grafana_admin_password)"

.PHONY: lab-hosts
lab-hosts: .venv/ready ## Bring up the lab's hosts only, untouched by Ansible
	python -m evenkeel.lab up --backends "$(BACKENDS)" --base "$(LAB_BASE)" --subnet "$(LAB_SUBNET)" \
	  --ssh-port "$(LAB_SSH_PORT)" \
	  --publish "$(LAB_SITE_PORT)" "$(LAB_STATS_PORT)" "$(LAB_PROMETHEUS_PORT)" "$(LAB_GRAFANA_PORT)"

.PHONY: lab-down
lab-down: .venv/ready ## Remove the lab: containers, volumes, network, keys
	python -m evenkeel.lab down

.PHONY: site
site: .venv/ready ## Run site.yml against INVENTORY
	ansible-playbook -i "$(INVENTORY)" site.yml $(ARGS)

.PHONY: deploy
deploy: .venv/ready ## Bring out a new version on INVENTORY, a batch at a time
	ansible-playbook -i "$(INVENTORY)" deploy.yml $(ARGS)

.PHONY: rollback
rollback: .venv/ready ## Put the version before back
	ansible-playbook -i "$(INVENTORY)" rollback.yml $(ARGS)

.PHONY: status
status: .venv/ready ## Show each backend's version and state
	ansible-playbook -i "$(INVENTORY)" status.yml $(ARGS)

.PHONY: chaos
chaos: .venv/ready ## Reboot a backend of INVENTORY under load and judge; other faults by ARGS
	ansible-playbook -i "$(INVENTORY)" chaos.yml $(ARGS)

.PHONY: gameday
gameday: .venv/ready ## All FAULTS, one after the other, and a page about all of them
	@folder="$(CURDIR)/reports/gameday-$$(date -u +%Y%m%dT%H%M%SZ)"; mkdir -p "$$folder"; \
	trap 'exit 130' INT TERM; \
	for fault in $(FAULTS); do \
	  ansible-playbook -i "$(INVENTORY)" chaos.yml -e "chaos_fault=$$fault" -e chaos_settle=180 \
	    -e "chaos_reports=$$folder" $(ARGS) || true; \
	  compgen -G "$$folder/*-$$fault-*" >/dev/null || mkdir "$$folder/$$fault-did-not-run"; \
	done; \
	python -m evenkeel.chaos index "$$folder"/*/ --output "$$folder/index.html"

.PHONY: picture
picture: .venv/ready ## Draw the lab's last two minutes into docs/images/site.png
	python -m evenkeel.graphs --prometheus "http://127.0.0.1:$(LAB_PROMETHEUS_PORT)" --output docs/images/site.png

.PHONY: test
test: lint unit molecule ## All tests (about half an hour on two cores)

.PHONY: lint
lint: .venv/ready ## Check style and types
	ruff format --check .
	ruff check .
	mypy
	yamllint --strict .
	# ansible-lint passes over a playbook whose syntax check fails.
	@ansible-playbook --syntax-check $(PLAYBOOKS)
	ansible-lint --offline

.PHONY: unit
unit: .venv/ready ## Run the tests that need no hosts
	pytest -q --numprocesses 3

# The whole site by itself, since load and faults want the machine; then the roles, some at once: they wait more than they
# work.
.PHONY: molecule
molecule: molecule-default ## Run every scenario
	$(MAKE) --jobs=$(PARALLEL) --output-sync=target $(filter-out molecule-default,$(SCENARIOS:%=molecule-%))

# Each has hosts under names, ports and in a subnet of its own.
.PHONY: molecule-%
molecule-%: .venv/ready ## Run one scenario, such as molecule-haproxy
	python -m evenkeel.lab engine
	@number=$$(printf '%s\n' $(SCENARIOS) | grep -nx -- '$*' | cut -d: -f1); \
	export MOLECULE_LAB="$${MOLECULE_LAB:-molecule-$*}" MOLECULE_SUBNET="$${MOLECULE_SUBNET:-10.213.$$((100 + number)).0/24}" \
	  MOLECULE_SSH_PORT="$${MOLECULE_SSH_PORT:-$$((2500 + 20 * number))}"; \
	COLUMNS=160 molecule -c .config/molecule/config.yml test -s $*

.PHONY: bench
bench: bench-failover bench-load ## Measure what the tests can't: all benchmarks, on the lab

.PHONY: bench-failover
bench-failover: .venv/ready ## What clients of the lab see of each fault (about half an hour)
	PYTHONPATH=src:molecule/shared python bench/failover_table.py --inventory inventories/lab/hosts.yml $(ARGS)

.PHONY: bench-load
bench-load: .venv/ready ## What the load generator sends from one core
	python bench/load_generator.py

.PHONY: dashboards
dashboards: .venv/ready ## Write Grafana's dashboards to files/dashboards
	python -m evenkeel.dashboards

.PHONY: lock
lock: .venv/ready ## Renew the exact versions in requirements.txt
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras pyproject.toml \
	  $(UV_LOCK) -o requirements.txt
	cd $(APP) && uv pip compile --quiet --python-version 3.13 --python-platform linux requirements.in \
	  $(UV_LOCK) -o requirements.txt

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11 or missing: install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: installing python3-venv, which is missing here"; \
	  $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends python3-venv; }
	@echo "make: installing the project's tools into .venv (about a minute)"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@touch $@
