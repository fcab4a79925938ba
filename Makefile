# `make` lists the targets. Everything runs from .venv, which is made on first use of the newest supported Python.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Another Python than the one that .config/python.sh finds: 3.11, python3.12, /path/to/python3.
PYTHON ?=
VENV := .venv
BACKENDS ?= 3
INVENTORY ?= inventories/lab
ARGS ?=
LAB_BASE ?=
# What the lab's hosts are: container, or vm (a kernel of their own).
KIND ?= container
# yes: the lab has an issuer of certificates, and its site is asked by TLS.
TLS ?=
$(if $(filter-out yes no,$(TLS)),$(error TLS is `$(TLS)`: write yes, or leave it out))
LAB_SUBNET ?= 10.213.77.0/24
LAB_SSH_PORT ?= 2200
LAB_SITE_PORT ?= 8080
LAB_TLS_PORT ?= 8443
LAB_STATS_PORT ?= 8404
LAB_PROMETHEUS_PORT ?= 9090
LAB_GRAFANA_PORT ?= 3000
FAULTS ?= $(basename $(notdir $(wildcard roles/chaos/faults/*.yml)))
APP := files/guide_api
OLDEST := 3.11
# What is nothing to ansible-lint, and links to folders.
UNLINTED := *.md docs src tests playbooks/group_vars playbooks/vars_plugins
UV_LOCK := --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
PLAYBOOKS := $(filter-out requirements.yml,$(wildcard *.yml)) $(wildcard playbooks/*.yml)
PARALLEL ?= 3
SCENARIOS := $(notdir $(patsubst %/,%,$(dir $(wildcard molecule/*/molecule.yml))))
MEASURED := molecule-default molecule-services
# The longest first, so that none of them is alone at the end.
LONGEST := molecule-rolling_update molecule-prometheus molecule-chaos molecule-grafana molecule-tls
ROLE_SCENARIOS := $(LONGEST) $(filter-out $(MEASURED) molecule-vm $(LONGEST),$(SCENARIOS:%=molecule-%))
ASIDE ?= lint unit oldest $(ROLE_SCENARIOS)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/src
# In English, and in UTF-8 whatever the shell has: Ansible starts with nothing else.
export LC_ALL := C.UTF-8
export LAB_BASE
# Not through the shell, which takes the quotes of JSON.
export ARGS
WITH_ARGS := python -m evenkeel.arguments
# Compiled once, not by every process of every run, whatever the shell had.
unexport PYTHONDONTWRITEBYTECODE
# The project's own, whatever the shell had.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help
help: ## List the targets and their variables
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "Variables: BACKENDS=$(BACKENDS), KIND=$(KIND) (or vm), TLS=$(TLS) (or yes), INVENTORY=$(INVENTORY), ARGS= (more for ansible-playbook), LAB_BASE= (host image),"
	@echo "LAB_SUBNET=$(LAB_SUBNET), LAB_SSH_PORT=$(LAB_SSH_PORT), LAB_SITE_PORT=$(LAB_SITE_PORT), LAB_TLS_PORT=$(LAB_TLS_PORT), LAB_STATS_PORT=$(LAB_STATS_PORT),"
	@echo "LAB_PROMETHEUS_PORT=$(LAB_PROMETHEUS_PORT), LAB_GRAFANA_PORT=$(LAB_GRAFANA_PORT),"
	@echo "PYTHON= (3.11, python3.12 or a path; otherwise the newest supported one that is found)"

.PHONY: lab
lab: lab-hosts ## Bring up a whole site on this machine
	$(WITH_ARGS) ansible-playbook -i inventories/lab site.yml
	@$(if $(filter yes,$(TLS)),echo "By TLS: curl --cacert .lab/lab/site-ca.pem --resolve site.lab.test:$(LAB_TLS_PORT):127.0.0.1 https://site.lab.test:$(LAB_TLS_PORT)/")
	@echo "The lab answers: http://127.0.0.1:$(LAB_SITE_PORT)/ (the site), http://127.0.0.1:$(LAB_STATS_PORT)/stats (HAProxy),"
	@echo "http://127.0.0.1:$(LAB_PROMETHEUS_PORT)/ (Prometheus), http://127.0.0.1:$(LAB_GRAFANA_PORT)/ (Grafana: admin, password in"
	@echo ".lab/lab/grafana_admin_password)"

.PHONY: lab-hosts
lab-hosts: $(VENV)/ready ## Bring up the lab's hosts only, untouched by Ansible
	python -m evenkeel.lab up --kind "$(KIND)" --backends "$(BACKENDS)" --base "$(LAB_BASE)" --subnet "$(LAB_SUBNET)" \
	  --ssh-port "$(LAB_SSH_PORT)" \
	  $(if $(filter yes,$(TLS)),--tls) --publish "$(LAB_SITE_PORT)" "$(LAB_TLS_PORT)" "$(LAB_STATS_PORT)" "$(LAB_PROMETHEUS_PORT)" "$(LAB_GRAFANA_PORT)"

.PHONY: lab-down
lab-down: $(VENV)/ready ## Remove the lab: containers, volumes, network, keys
	python -m evenkeel.lab down

.PHONY: site
site: $(VENV)/ready ## Run site.yml against INVENTORY
	$(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" site.yml

.PHONY: deploy
deploy: $(VENV)/ready ## Bring out a new version on INVENTORY, a batch at a time
	$(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" deploy.yml

.PHONY: rollback
rollback: $(VENV)/ready ## Put the version before back
	$(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" rollback.yml

.PHONY: status
status: $(VENV)/ready ## Show each backend's version and state
	$(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" status.yml

.PHONY: chaos
chaos: $(VENV)/ready ## Reboot a backend of INVENTORY under load and judge; other faults by ARGS
	$(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" chaos.yml

.PHONY: gameday
gameday: $(VENV)/ready ## All FAULTS, one after the other, and a page about all of them
	@folder="$(CURDIR)/reports/gameday-$$(date -u +%Y%m%dT%H%M%SZ)"; mkdir -p "$$folder"; \
	trap 'exit 130' INT TERM; \
	for fault in $(FAULTS); do \
	  $(WITH_ARGS) ansible-playbook -i "$(INVENTORY)" chaos.yml -e "chaos_fault=$$fault" -e chaos_settle=180 \
	    -e "chaos_reports=$$folder" || true; \
	  compgen -G "$$folder/*-$$fault-*" >/dev/null || mkdir "$$folder/$$fault-did-not-run"; \
	done; \
	python -m evenkeel.chaos table "$$folder"/*/ || true; python -m evenkeel.chaos index "$$folder"/*/ --output "$$folder/index.html"

.PHONY: picture
picture: $(VENV)/ready ## Draw the lab's last two minutes into docs/images/site.png
	python -m evenkeel.graphs --prometheus "http://127.0.0.1:$(LAB_PROMETHEUS_PORT)" --output docs/images/site.png

.PHONY: test
test: $(VENV)/ready ## All tests but those on VMs (about 32 minutes on two cores)
	python -m evenkeel.lab engine
	@mkdir -p .lab; rm -f .lab/*.failed; \
	$(MAKE) --jobs=2 --output-sync=target measured aside 2>&1 | tee .lab/test.log || { bash .config/failed.sh .lab; exit 1; }

# What measures load, one after the other, leaves half of the machine idle. What measures none takes that half only: its
# processes and its hosts give way.
.PHONY: measured
measured:
	$(MAKE) --jobs=1 --keep-going $(MEASURED)

.PHONY: aside
aside:
	bash .config/aside.sh $(MAKE) --keep-going --jobs=$(PARALLEL) --output-sync=target $(ASIDE)

.PHONY: test-vm
test-vm: molecule-vm ## The site on VMs: kernels of their own, reboots and power cuts

.PHONY: syntax
syntax: $(VENV)/ready ## Check the syntax of all playbooks
	@ansible-playbook --syntax-check $(PLAYBOOKS)

# ansible-lint passes over a playbook whose syntax check fails.
.PHONY: lint
lint: syntax ## Check style and types
	ruff format --check .
	ruff check .
	mypy
	yamllint --strict .
	# It takes two minutes of one core, so on two, and not again for the very same files. Where they can't be listed, always.
	@sum="$$(git ls-files -z --cached --others --exclude-standard -- $(UNLINTED:%=':!%') | xargs -0 sha256sum | sha256sum)" \
	  || sum=$$RANDOM$$RANDOM; \
	if [[ "$$(cat .lab/linted 2>&-)" == "$$sum" ]]; then echo "ansible-lint has passed on these very files."; \
	else ansible-lint --offline roles & ansible-lint --offline --exclude roles; wait "$$!"; mkdir -p .lab; echo "$$sum" >.lab/linted; fi

.PHONY: unit
unit: $(VENV)/ready ## Run the tests that need no hosts
	pytest -q --numprocesses 3

# Not the types: mypy checks for Python 3.11, whichever Python it runs on.
.PHONY: oldest
oldest: ## Syntax and unit tests with the oldest supported Python and its Ansible, in .venv-3.11
	@if python="$$(bash .config/python.sh $(OLDEST))"; then $(MAKE) VENV=.venv-$(OLDEST) PYTHON="$$python" syntax unit; \
	else echo "make: so nothing was tested with Python $(OLDEST)" >&2; fi

.PHONY: molecule
molecule: ## Run every scenario
	$(MAKE) test ASIDE="$(ROLE_SCENARIOS)"

# Each has hosts under names, ports and in a subnet of its own.
.PHONY: molecule-%
molecule-%: $(VENV)/ready ## Run one scenario, such as molecule-haproxy
	python -m evenkeel.lab engine
	@number=$$(printf '%s\n' $(SCENARIOS) | grep -nx -- '$*' | cut -d: -f1); \
	export MOLECULE_LAB="$${MOLECULE_LAB:-molecule-$(subst _,-,$*)}" MOLECULE_SUBNET="$${MOLECULE_SUBNET:-10.213.$$((100 + number)).0/24}" \
	  MOLECULE_SSH_PORT="$${MOLECULE_SSH_PORT:-$$((2500 + 20 * number))}"; \
	log=".lab/$$MOLECULE_LAB.log"; failed=".lab/$$MOLECULE_LAB.failed"; mkdir -p .lab; rm -f "$$failed"; \
	COLUMNS=160 molecule -c .config/molecule/config.yml test -s $* 2>&1 | tee "$$log" \
	  || { status=$$?; [[ -s "$$failed" ]] || grep -E -A8 'fatal: |CRITICAL' "$$log" | tail -n 30 >"$$failed" || true; \
	  echo "Failed in $*:"; cat "$$failed"; exit $$status; }

.PHONY: bench
bench: bench-failover bench-images bench-load bench-data-path bench-plays bench-scale bench-tls ## Measure what the tests can't: all benchmarks, on the lab

.PHONY: bench-failover
bench-failover: $(VENV)/ready ## What clients of the lab see of each fault (about half an hour)
	PYTHONPATH=src:molecule/shared $(WITH_ARGS) python bench/failover_table.py --inventory inventories/lab/hosts.yml

.PHONY: bench-images
bench-images: $(VENV)/ready ## The same of a few frameworks' images in the place of the guide's API (about 25 minutes)
	PYTHONPATH=src:molecule/shared:bench $(WITH_ARGS) python bench/image_table.py --inventory inventories/lab/hosts.yml

.PHONY: bench-kills
bench-kills: $(VENV)/ready ## Kill site.yml, deploy.yml and rollback.yml, on fresh hosts too, and see whether the next run mends (hours)
	PYTHONPATH=src:molecule/shared $(WITH_ARGS) python bench/kill_runs.py --inventory inventories/lab/hosts.yml

.PHONY: bench-plays
bench-plays: $(VENV)/ready ## What runs of site.yml cost, on hosts of their own (about 10 minutes)
	$(WITH_ARGS) python bench/play_table.py

.PHONY: bench-scale
bench-scale: $(VENV)/ready ## What grows with the number of backends, up to 1000 (about 3 minutes)
	$(WITH_ARGS) python bench/scale_table.py

.PHONY: bench-load
bench-load: $(VENV)/ready ## What the load generator sends from one core
	python bench/load_generator.py

.PHONY: bench-data-path
bench-data-path: $(VENV)/ready ## What the balancer costs, against requests straight to a backend (a lab with BACKENDS=1; needs h2load)
	PYTHONPATH=src:molecule/shared $(WITH_ARGS) python bench/data_path.py --inventory inventories/lab/hosts.yml

.PHONY: bench-tls
bench-tls: $(VENV)/ready ## What TLS costs at the lab's front door, against plain text (a few minutes; needs h2load)
	PYTHONPATH=src:molecule/shared $(WITH_ARGS) python bench/tls_cost.py --inventory inventories/lab/hosts.yml

.PHONY: dashboards
dashboards: $(VENV)/ready ## Write Grafana's dashboards to files/dashboards
	python -m evenkeel.dashboards

.PHONY: docs
docs: $(VENV)/ready ## Write the catalogue of faults to docs/chaos.md
	python -m evenkeel.faults

.PHONY: lock
lock: $(VENV)/ready ## Renew the exact versions in requirements.txt
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras pyproject.toml \
	  $(UV_LOCK) -o requirements.txt
	cd $(APP) && uv pip compile --quiet --python-version 3.13 --python-platform linux requirements.in \
	  $(UV_LOCK) -o requirements.txt

# Made anew too when another Python is asked for, when its own is gone, and when the folder has moved: programs hold its path.
ifneq ($(shell { read -r folder && read -r python; } 2>&- <$(VENV)/ready && [[ -x $(VENV)/bin/python && \
  "$$folder" == "$(CURDIR)" && ( -z "$(PYTHON)" || "$$python" == "$(PYTHON)" ) ]] && echo sound),sound)
.PHONY: $(VENV)/ready
endif
$(VENV)/ready: requirements.txt
	@python="$$(bash .config/python.sh "$(PYTHON)")"; \
	echo "make: installing the project's tools into $(VENV), for $$("$$python" --version) ($$python): about a minute"; \
	rm -rf $(VENV); "$$python" -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps \
	  -r requirements.txt
	@printf '%s\n' "$(CURDIR)" "$(PYTHON)" >$@
